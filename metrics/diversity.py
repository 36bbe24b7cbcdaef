"""What only several samples of one measurement can tell: the pair (one draw, mean of draws), their spread, and whether
the spread is right.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from common.image_range import to_float
from metrics.distortion import psnr_of_mse


@dataclass(frozen=True)
class SetMetrics:
    """float64 [B] each; root mean squares and squares per value (pixel and channel), in [-1, 1] units except for the
    PSNR.

    Args:
        psnr_mean: PSNR in dB of the mean of the N samples (not rounded again).
        pairwise_rmse: mean over pairs of sqrt(mean (x^i - x^j)^2).
        variance: V, the variance of the samples.
        bias: B, the squared error of their mean without what chance adds to it. It may be negative for one image. V / B
            of means over images is 1 for a calibrated sampler, below 1 for one that collapsed.
    """

    psnr_mean: Tensor
    pairwise_rmse: Tensor
    variance: Tensor
    bias: Tensor


NAMES = tuple(field.name for field in fields(SetMetrics))


def set_metrics(samples: Tensor, truth: Tensor) -> SetMetrics:
    """V = 1/(N-1) sum |x^k - xb|^2, B = |xb - x|^2 - V/N, with xb the mean of N >= 2 samples; divided by the number of
    values.

    samples: uint8 [B, N, C, H, W]; truth: uint8 [B, C, H, W]. ValueError for fewer than two samples. Source: reference
    4.10.
    """
    B, N = samples.shape[:2]
    if N < 2:
        raise ValueError(f"set metrics need at least 2 samples of an image, got {N}")
    x = to_float(samples).double().flatten(2)
    reference = to_float(truth).double().flatten(1)
    mean = x.mean(1)
    variance = (x - mean[:, None]).square().sum(1).div(N - 1).mean(1)
    error = (mean - reference).square().mean(1)
    total = torch.zeros(B, dtype=torch.float64, device=x.device)
    for i in range(N - 1):  # pair by pair with one sample at a time: N^2 images at once would not fit
        total += (x[:, i + 1 :] - x[:, i : i + 1]).square().mean(2).sqrt().sum(1)
    return SetMetrics(
        psnr_mean=psnr_of_mse(error * 127.5**2),
        pairwise_rmse=total / (N * (N - 1) / 2),
        variance=variance,
        bias=error - variance / N,
    )
