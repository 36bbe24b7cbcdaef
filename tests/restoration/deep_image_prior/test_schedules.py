"""Schedules of a fit and laws of its noise."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from restoration.deep_image_prior.schedules import LAWS, LEAST, SCHEDULES


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_one_never_rises_and_stays_at_its_end(name):
    factors = [SCHEDULES[name](step, 40) for step in range(100)]
    assert factors[0] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(factors))
    end = 1.0 if name == "constant" else LEAST
    assert factors[40:] == pytest.approx([end] * 60, rel=1e-12)


def test_half_way():
    assert SCHEDULES["cosine"](20, 40) == pytest.approx((1 + LEAST) / 2)
    assert SCHEDULES["exponential"](20, 40) == pytest.approx(LEAST**0.5)


@pytest.mark.parametrize(
    ("name", "law"),
    [("normal", stats.norm()), ("uniform", stats.uniform(-(3**0.5), 2 * 3**0.5))],
    ids=["normal", "uniform"],
)
def test_a_law_is_the_one_of_its_name(name, law):
    noise = LAWS[name](torch.from_numpy(np.random.default_rng(0).standard_normal(20_000)))
    assert stats.kstest(noise.numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", LAWS)
def test_every_law_has_mean_0_and_deviation_1_and_keeps_the_sign(name):
    normal = torch.from_numpy(np.random.default_rng(1).standard_normal(200_000)).float()
    noise = LAWS[name](normal)
    assert noise.dtype == normal.dtype and torch.isfinite(noise).all()
    assert abs(float(noise.mean())) < 0.01 and float(noise.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(noise.sign(), normal.sign())
