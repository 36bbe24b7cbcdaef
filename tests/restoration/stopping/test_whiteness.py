"""Autocorrelation of the residual."""

import pytest
import torch
from stopping_worlds import follow, noisy

from degradations.identity import IdentityOperator
from degradations.mask import Mask
from degradations.noise import GaussianNoise
from restoration.base import Unsupported
from restoration.stopping.whiteness import ResidualWhiteness, correlation


def directly(e: torch.Tensor, lag: int) -> float:
    """The definition, shift by shift, for one channel [H, W]."""
    e = e - e.mean()
    height, width = e.shape
    total = 0.0
    for down in range(-lag, lag + 1):
        for right in range(-lag, lag + 1):
            if (down, right) != (0, 0):
                a = e[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
                b = e[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
                total += float((a * b).sum() / e.square().sum()) ** 2
    return total


@pytest.mark.parametrize("lag", [1, 4])
def test_it_is_the_sum_over_shifts(lag):
    e = torch.randn(2, 3, 14, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(-1)
    for found, image in zip(correlation(e, lag), e, strict=True):
        assert float(found) == pytest.approx(sum(directly(c, lag) for c in image) / 3, rel=1e-9)


def test_white_noise_has_little():
    """E rho_D^2 is about 1 / N at each of the (2 lag + 1)^2 - 1 shifts; structure, smooth or alternating, has much
    more.
    """
    white = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(correlation(white, 2).mean()) == pytest.approx(24 / 1024, rel=0.12)
    smooth = torch.nn.functional.avg_pool2d(white, 3, 1)
    rough = white[..., 1:] - white[..., :-1]
    assert float(correlation(smooth, 2).min()) > 0.5 and float(correlation(rough, 2).min()) > 0.2


def test_it_stops_at_the_least_of_the_smoothed_measure():
    measurement = noisy(2)
    found = follow(ResidualWhiteness(lag=2, smooth=5, patience=15), measurement, iterations=120)
    measures = torch.stack([correlation(o - measurement.y, 2) for o in found.outputs])
    smoothed = measures.unfold(0, 5, 1).mean(2)
    for image in range(2):
        least, best, end = float("inf"), 0, 0
        for j in range(5, 121):
            if float(smoothed[j - 5, image]) < least:
                least, best = float(smoothed[j - 5, image]), j
            if j - best >= 15:
                end = j
                break
        assert (int(found.kept_at[image]), int(found.stopped_at[image])) == (best, end)


def test_it_needs_complete_pictures():
    noise = GaussianNoise(sigma=0.1)
    for operator in (Mask(torch.eye(16), channels=1), IdentityOperator((1, 8, 16))):
        with pytest.raises(Unsupported, match="whiteness"):
            ResidualWhiteness().check(operator, noise)
    ResidualWhiteness().check(IdentityOperator((1, 16, 16)), noise)
    for options in ({"lag": 0}, {"patience": 0}, {"smooth": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            ResidualWhiteness(**options)
