"""A grey picture through a denoiser of colours."""

import pytest
import torch

from diffusion.closed_form import GaussianDenoiser
from diffusion.grey_through_colour import GAIN, GreyThroughColour


def equal_channels(variance: float = 0.3, mean: float = 0.1) -> GaussianDenoiser:
    """Colour data that are always grey: x = g (1, 1, 1), g ~ N(mean, variance), one pixel."""
    return GaussianDenoiser(mean=mean, covariance=variance * torch.ones(3, 3), data_shape=(3, 1, 1))


def test_it_is_the_exact_denoiser_of_grey_data():
    """Of g itself, with noise sigma: mean + variance / (variance + sigma^2) (x - mean)."""
    sigma = torch.tensor([0.2, 0.7], dtype=torch.float64)
    x = torch.tensor([0.5, -0.4], dtype=torch.float64).view(2, 1, 1, 1)
    found = GreyThroughColour(equal_channels()).predict(x, sigma)
    expected = 0.1 + 0.3 / (0.3 + sigma.view(-1, 1, 1, 1) ** 2) * (x - 0.1)
    torch.testing.assert_close(found.x0, expected)
    torch.testing.assert_close(found.x0 + sigma.view(-1, 1, 1, 1) * found.eps, x)


def test_its_levels_are_those_of_the_denoiser_less_the_gain():
    colour = equal_channels()
    grey = GreyThroughColour(colour)
    assert grey.data_shape == (1, 1, 1) and grey.sigma_max == pytest.approx(colour.sigma_max / GAIN)
    assert float(grey.level_at(torch.tensor([500]))) == pytest.approx(
        float(colour.level_at(torch.tensor([500]))) / GAIN
    )


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="3 channels"):
        GreyThroughColour(GaussianDenoiser(mean=0.0, covariance=1.0, data_shape=(1, 2, 2)))
