"""Non-local means: the weights of its docstring, written out; the level by contrast; grey and colour; refusals."""

import math

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.identity import Identity, IdentityOperator
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.random_mask import RandomMask
from degradations.scaled import Scaled
from restoration.base import Cost, Unsupported
from restoration.nl_means import NLMeans


def denoised(y: torch.Tensor, sigma: float, operator=None, **options) -> torch.Tensor:
    operator = operator or IdentityOperator(tuple(y.shape[1:]))
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(sigma=sigma), index=tuple(range(len(y))))
    return NLMeans(**options).restore(measurement, random=RandomStreams(0)).samples[:, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_weights_written_out(channels):
    """Patches of 3 and a distance of 1: the library's fast mode sums 2x2 squares and divides by 9. In the middle, where
    no border is in the way.
    """
    sigma = 0.2
    y = (RandomStreams(0).normal("y", 0, 0, (1, channels, 8, 8)) * 0.3).double()
    total, weights = torch.zeros(channels, dtype=torch.float64), 0.0
    for i in (2, 3, 4):
        for j in (2, 3, 4):
            square = (y[0, :, i : i + 2, j : j + 2] - y[0, :, 3:5, 3:5]).square() - 2 * sigma**2
            w = math.exp(-max(0.0, float(square.mean(0).sum()) / 9) / (0.6 * sigma) ** 2)
            total, weights = total + w * y[0, :, i, j], weights + w
    found = denoised(y, sigma, patch=3, distance=1)
    # The library takes weights below exp(-5) for none.
    torch.testing.assert_close(found[0, :, 3, 3], total / weights, atol=4e-3, rtol=0)


def test_it_removes_noise_and_stays_outside_of_the_range_where_the_picture_is():
    """Stripes repeat: their noise is nearly gone; values beyond white are not clipped."""
    x = torch.full((1, 3, 32, 32), -0.4)
    x[..., ::4] = 1.2
    y = measure(x, degradation=Identity(), noise=GaussianNoise(sigma=0.1), index=[0], random=RandomStreams(0)).y
    found = denoised(y, 0.1)
    assert float((found - x).square().mean()) < 0.15 * float((y - x).square().mean())
    assert found.dtype == torch.float32 and float(found.max()) > 1.1


def test_less_contrast_is_the_same_picture_with_more_noise():
    y = RandomStreams(0).normal("y", 0, 0, (2, 1, 12, 12)) * 0.5
    torch.testing.assert_close(denoised(y * 0.5, 0.1, Scaled(0.5, (1, 12, 12))), denoised(y, 0.2))
    assert NLMeans().calls() == Cost()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 5), (3, 2, 7)])
def test_tiny_pictures(shape):
    assert torch.isfinite(denoised(torch.zeros(2, *shape), 0.1)).all()


def test_what_is_no_denoising_is_refused():
    identity = IdentityOperator((1, 8, 8))
    for operator, noise, message in (
        (
            RandomMask(removed=0.5).operator_for((1, 8, 8), [0], RandomStreams(0)),
            GaussianNoise(sigma=0.1),
            "nl_means r",
        ),
        (identity, GaussianNoise(sigma=0.0), "nl_means needs noise above 0, to remove"),
        (identity, PoissonNoise(scale=100), "white noise"),
    ):
        with pytest.raises(Unsupported, match=message):
            NLMeans().check(operator, noise)


@pytest.mark.parametrize("options", [{"patch": 4}, {"patch": 1}, {"distance": 0}, {"strength": 0.0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="patch must be odd"):
        NLMeans(**options)
