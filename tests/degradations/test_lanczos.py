"""Lanczos downsampling against a convolution with the two-dimensional kernel written out, and what is refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.lanczos import Lanczos, lanczos, lanczos_axis

RANDOM = RandomStreams(0)


def _kernel(factor: int, lobes: int, phase: float) -> torch.Tensor:
    """w(x) w(y), offsets (k - (n - 1) / 2) / f, normalised to sum 1: the published formula with sines, tap by tap."""
    side = 2 * lobes * factor + (phase == 0)
    taps = []
    for k in range(side):
        d = abs(k - (side - 1) / 2) / factor
        taps.append(
            1.0 if d == 0 else lobes * math.sin(math.pi * d) * math.sin(math.pi * d / lobes) / (math.pi * d) ** 2
        )
    line = torch.tensor(taps, dtype=torch.float64)
    return torch.outer(line, line) / line.sum() ** 2


@pytest.mark.parametrize("phase", [0.5, 0.0])
@pytest.mark.parametrize(("factor", "lobes", "pad"), [(4, 2, 6), (8, 2, 12), (4, 3, 10), (2, 2, 3)])
def test_equals_the_published_convolution(factor: int, lobes: int, pad: int, phase: float):
    """Replicated border of (side - f) / 2 pixels, stride f: 6, 12 and 10 pixels for kernels of 16, 32 and 24 taps; with
    phase 0 one tap more at the end.
    """
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    kernel = _kernel(factor, lobes, phase)
    after = len(kernel) - factor - pad
    padded = F.pad(x, [pad, after, pad, after], mode="replicate")
    expected = F.conv2d(padded, kernel.expand(3, 1, -1, -1), stride=factor, groups=3)
    found = Lanczos(factor=factor, lobes=lobes, phase=phase).operator_for((3, 48, 64), [0, 1], RANDOM)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_ramp_is_sampled_at_the_block_centres(factor: int):
    """Half-pixel alignment inside, for odd factors too."""
    side = 12 * factor
    x = 0.01 * torch.arange(side, dtype=torch.float64).expand(1, 1, side, side)
    y = Lanczos(factor=factor).operator_for((1, side, side), [0], RANDOM)(x)
    expected = 0.01 * ((torch.arange(12).double() + 0.5) * factor - 0.5)
    torch.testing.assert_close(y[0, 0, 5, 2:-2], expected[2:-2], rtol=0, atol=1e-12)


def test_window_and_normalisation():
    assert lanczos(torch.tensor([0.0, 1.0, 2.0, -1.0, 5.0]), 2).tolist() == pytest.approx([1, 0, 0, 0, 0], abs=1e-7)
    assert float(lanczos(torch.tensor(0.5, dtype=torch.float64), 2)) == pytest.approx(
        (2 / math.pi) * (math.sqrt(8) / math.pi), abs=1e-12
    )
    matrix = lanczos_axis(32, 4, 2, 0.5).matrix
    torch.testing.assert_close(matrix.sum(1), torch.ones(8).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(matrix, matrix.flip(0, 1), rtol=0, atol=1e-15)
    assert lanczos_axis(32, 4, 2, 0.5) is lanczos_axis(32, 4, 2, 0.5)


def test_factor_one_is_the_identity_and_clean_shape():
    assert torch.allclose(lanczos_axis(9, 1, 2, 0.5).matrix, torch.eye(9).double(), atol=1e-15)
    assert Lanczos(factor=4).clean_shape((3, 5, 6)) == (3, 20, 24)


def test_refuses():
    with pytest.raises(UserError, match="factor=8 does not divide the image of 28x28"):
        Lanczos(factor=8).operator_for((1, 28, 28), [0], RANDOM)
    for options, word in (
        ({"factor": 0}, "factor"),
        ({"factor": 2, "lobes": 4}, "lobes"),
        ({"factor": 2, "phase": 0.25}, "phase"),
    ):
        with pytest.raises(UserError, match=word):
            Lanczos(**options)
