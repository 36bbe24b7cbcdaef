"""The root mean square of noise that depends on the image, read off the measurement."""

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.impulse_noise import ImpulseNoise
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.speckle_noise import SpeckleNoise

KINDS = [ImpulseNoise(probability=0.3, kind=k) for k in ("salt_and_pepper", "salt", "pepper", "uniform")]


@pytest.mark.parametrize(
    "noise", [GaussianNoise(sigma_255=25), PoissonNoise(scale=25), SpeckleNoise(sigma_unit=0.3), *KINDS], ids=repr
)
def test_it_is_that_of_the_noise_that_was_added(noise):
    x = torch.stack(
        [torch.linspace(-1, 0.2, 120 * 120).view(1, 120, 120), torch.linspace(0, 1, 120 * 120).view(1, 120, 120)]
    )
    y = noise.add(x, [0, 1], RandomStreams(0))
    mask = torch.ones(2, 1, 120, 120)
    mask[:, :, :60] = 0
    for chosen, used in ((None, torch.ones_like(mask)), (mask, mask)):
        true = ((y - x).square() * used).sum((1, 2, 3)).div(used.sum((1, 2, 3))).sqrt()
        torch.testing.assert_close(noise.rms(y, chosen), true.double(), rtol=0.04, atol=0)


@pytest.mark.parametrize(
    "noise", [GaussianNoise(sigma_255=25), PoissonNoise(scale=5), SpeckleNoise(sigma_unit=0.3)], ids=repr
)
def test_the_variance_of_a_value_is_that_of_its_grey_level(noise):
    """Its mean over many measurements of one grey level, dark or bright, is the mean squared noise there."""
    x = torch.tensor([-0.9, -0.2, 0.8]).view(3, 1, 1, 1).expand(3, 1, 150, 150)
    y = noise.add(x, [0, 1, 2], RandomStreams(0))
    true = (y - x).square().mean((1, 2, 3))
    torch.testing.assert_close(noise.variance(y).mean((1, 2, 3)), true, rtol=0.04, atol=0)
    assert noise.variance(y).shape == y.shape and bool((noise.variance(y) >= 0).all())
