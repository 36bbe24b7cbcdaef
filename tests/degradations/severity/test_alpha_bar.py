"""The cosine alpha-bar table against the schedule of the diffusion package and its closed form."""

import math

import pytest
import torch

from degradations.severity.alpha_bar import cosine_alpha_bar
from diffusion.schedules import Cosine


@pytest.mark.parametrize("steps", [2, 10, 50, 200, 1000])
@pytest.mark.parametrize("offset", [0.008, 0.02])
def test_equals_the_schedule(steps, offset):
    table = cosine_alpha_bar(steps, offset)
    assert table.dtype == torch.float64 and table.shape == (steps,)
    assert torch.allclose(table, Cosine(steps=steps, offset=offset).alphas_bar.double(), rtol=1e-12, atol=0)


def test_closed_form_where_no_beta_is_cut_off():
    table, s = cosine_alpha_bar(200), 0.008
    first = math.cos(s / (1 + s) * math.pi / 2) ** 2
    for i in (0, 1, 50, 100, 198):
        assert table[i].item() == pytest.approx(
            math.cos(((i + 1) / 200 + s) / (1 + s) * math.pi / 2) ** 2 / first, rel=1e-9
        )
    assert table[199].item() == pytest.approx(1e-3 * table[198].item(), rel=1e-9)  # the last beta would be 1
    assert (table.diff() < 0).all() and 0 < table[-1] < table[0] < 1
