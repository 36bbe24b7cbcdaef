"""Wavelets: BayesShrink by PyWavelets alone, shifts averaged, colour as YCbCr; tiny pictures and options."""

import numpy as np
import pytest
import pywt
import torch

from common.random_streams import RandomStreams
from degradations.identity import Identity, IdentityOperator
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from restoration.base import Cost, Unsupported
from restoration.wavelets import Wavelets


def denoised(y: torch.Tensor, sigma: float, **options) -> torch.Tensor:
    measurement = Measurement(
        y=y, operator=IdentityOperator(tuple(y.shape[1:])), noise=GaussianNoise(sigma=sigma), index=tuple(range(len(y)))
    )
    return Wavelets(**options).restore(measurement, random=RandomStreams(0)).samples[:, 0]


def picture(channels: int) -> torch.Tensor:
    i, j = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    x = torch.where((i - 16) ** 2 + (j - 14) ** 2 < 80, 0.6, -0.3) + 0.01 * i
    return torch.stack([x * s for s in (1.0, -0.7, 0.4)[:channels]])[None].double()


def noisy(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return measure(x, degradation=Identity(), noise=GaussianNoise(sigma=sigma), index=[0], random=RandomStreams(0)).y


def bayes_shrink(y: np.ndarray, sigma: float) -> np.ndarray:
    """Soft thresholds of Haar's details in two levels: the library leaves three of the five that 32 pixels have."""
    smooth, *details = pywt.wavedec2(y, "haar", level=2)
    done = [smooth]
    for bands in details:
        spread = [np.sqrt(max((band**2).mean() - sigma**2, np.finfo(float).eps)) for band in bands]
        done.append(
            tuple(pywt.threshold(band, sigma**2 / s, mode="soft") for band, s in zip(bands, spread, strict=True))
        )
    return pywt.waverec2(done, "haar")


@pytest.mark.parametrize("shifts", [0, 1])
def test_thresholds_and_shifts_written_out(shifts):
    sigma = 0.2
    y = noisy(picture(1), sigma)
    expected = np.zeros((32, 32))
    for a in range(shifts + 1):
        for b in range(shifts + 1):
            turned = np.roll(y[0, 0].numpy(), (a, b), (0, 1))
            expected += np.roll(bayes_shrink(turned, sigma), (-a, -b), (0, 1)) / (shifts + 1) ** 2
    torch.testing.assert_close(denoised(y, sigma, shifts=shifts)[0, 0], torch.from_numpy(expected), atol=1e-9, rtol=0)


def test_colour_is_denoised_as_luminance_and_two_differences():
    """Better than channel by channel where channels go together, and exact where there is next to no noise."""
    sigma = 0.2
    x = picture(1).expand(1, 3, 32, 32)
    y = noisy(x, sigma)
    together = float((denoised(y, sigma) - x).square().mean())
    apart = float(torch.stack([(denoised(y[:, [c]], sigma) - x[:, [c]]).square().mean() for c in range(3)]).mean())
    assert together < 0.7 * apart < 0.5 * sigma**2
    torch.testing.assert_close(denoised(picture(3), 1e-6), picture(3), atol=1e-5, rtol=0)


def test_more_shifts_leave_less_noise():
    x = picture(3)
    errors = [float((denoised(noisy(x, 0.3), 0.3, shifts=s) - x).square().mean()) for s in (0, 3)]
    assert errors[1] < 0.9 * errors[0] and Wavelets().calls() == Cost()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 5), (3, 2, 7)])
def test_tiny_pictures(shape):
    assert torch.isfinite(denoised(torch.zeros(2, *shape), 0.1)).all()


def test_refusals():
    mask = RandomMask(removed=0.5).operator_for((1, 8, 8), [0], RandomStreams(0))
    with pytest.raises(Unsupported, match="wavelets removes noise and undoes nothing"):
        Wavelets().check(mask, GaussianNoise(sigma=0.1))
    with pytest.raises(ValueError, match="shifts must be at least 0, got -1"):
        Wavelets(shifts=-1)
    with pytest.raises(ValueError, match=r"wavelet must be .* got 'haarr'"):
        Wavelets(wavelet="haarr")
