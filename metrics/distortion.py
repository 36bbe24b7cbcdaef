"""Distances between two 8-bit images, one number per image, in float64: pure functions of uint8 [B, C, H, W] on any
device.

Written here, and compared with scikit-image and torchmetrics in the tests. scikit-image gives the same numbers, one
NumPy image at a time on the CPU. torchmetrics averages SSIM over a mirrored border too, which changes the second digit
of small images, and its import takes longer than many an evaluation. The definitions are a few lines each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.tensor_shapes import PerImage, Pixels

RANGE = 255.0
PSNR_CAP = 100.0
SSIM_WINDOW = 11
SSIM_STD = 1.5
_K1, _K2 = 0.01, 0.03
_AT_ONCE = 2**20  # pixels in one convolution


def mse(x: Pixels, truth: Pixels) -> PerImage:
    """mean (x - truth)^2 over channels and pixels, in grey levels squared: float64 [B]. TypeError for other dtypes,
    ValueError for other shapes.
    """
    a, b = pixel_pair(x, truth)
    return (a - b).square().mean((1, 2, 3))


def rmse(x: Pixels, truth: Pixels) -> PerImage:
    """sqrt(mse), in grey levels 0..255: float64 [B]."""
    return mse(x, truth).sqrt()


def mae(x: Pixels, truth: Pixels) -> PerImage:
    """mean |x - truth| over channels and pixels, in grey levels 0..255: float64 [B]."""
    a, b = pixel_pair(x, truth)
    return (a - b).abs().mean((1, 2, 3))


def psnr(x: Pixels, truth: Pixels) -> PerImage:
    """10 log10(255^2 / mse) in dB, at most 100 (equal images): float64 [B]. A mean over images is a mean of dB, not the
    dB of a mean.
    """
    return psnr_of_mse(mse(x, truth))


def psnr_of_mse(error: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors in grey levels squared, capped at 100."""
    least = RANGE**2 / 10 ** (PSNR_CAP / 10)
    return 10 * torch.log10(RANGE**2 / error.clamp_min(least))


def ssim(x: Pixels, truth: Pixels) -> PerImage:
    """(2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2)), mean over places and channels: float64 [B].

    Gaussian window of 11 pixels and std 1.5, population covariances, K1 = .01, K2 = .03, only places where the window
    lies inside of the image (no border). Images with a side under 11 have no such place: NaN, which stands for
    "missing". Source: Wang et al. 2004; equal to scikit-image with gaussian_weights=True, use_sample_covariance=False.
    """
    a, b = pixel_pair(x, truth)
    B, C, H, W = a.shape
    if min(H, W) < SSIM_WINDOW:
        return torch.full((B,), float("nan"), dtype=torch.float64, device=a.device)
    place = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=a.device) - SSIM_WINDOW // 2
    taps = torch.exp(-0.5 * (place / SSIM_STD).square())
    taps = taps / taps.sum()
    stack = torch.cat([a, b, a * a, b * b, a * b]).flatten(0, 1)[:, None]
    # A convolution in float64 holds its input once for each tap, so large pictures go through plane by plane.
    parts = stack.split(max(1, _AT_ONCE // (H * W)))
    means = torch.cat([F.conv2d(F.conv2d(part, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1)) for part in parts])
    ma, mb, maa, mbb, mab = means.unflatten(0, (5, B, C)).squeeze(3)
    c1, c2 = (_K1 * RANGE) ** 2, (_K2 * RANGE) ** 2
    numerator = (2 * ma * mb + c1) * (2 * (mab - ma * mb) + c2)
    denominator = (ma.square() + mb.square() + c1) * (maa - ma.square() + mbb - mb.square() + c2)
    return (numerator / denominator).mean((1, 2, 3))


def pixel_pair(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of 8-bit images as float64 [B, C, H, W] in grey levels 0..255. TypeError for other dtypes, ValueError
    for other shapes.
    """
    if x.dtype != torch.uint8 or truth.dtype != torch.uint8:
        raise TypeError(f"metrics are computed on 8-bit pixels, got {x.dtype} and {truth.dtype}")
    if x.shape != truth.shape or x.ndim != 4:
        raise ValueError(
            f"both images must have the same shape [B, C, H, W], got {list(x.shape)} and {list(truth.shape)}"
        )
    return x.double(), truth.double()
