"""Several samples of one measurement as rows of numbers: what the metrics of samples begin with."""

import torch
from torch import Tensor

from common.image_range import to_float
from common.tensor_shapes import ImageRows, PerImage, Pixels, SampleRows
from metrics.features import FeatureNetwork, Features


def sample_rows(samples: Tensor, truth: Pixels) -> tuple[SampleRows, ImageRows]:
    """Samples uint8 [B, N, C, H, W] and truth uint8 [B, C, H, W] as float64 [B, N, V] and [B, V] in [-1, 1], V = C H W.

    TypeError for other dtypes; ValueError for fewer than two samples or other shapes.
    """
    if samples.ndim != 5 or samples.shape[:1] + samples.shape[2:] != truth.shape:
        raise ValueError(
            f"expected samples [B, N, C, H, W] of truth [B, C, H, W], got {list(samples.shape)} and {list(truth.shape)}"
        )
    if samples.shape[1] < 2:
        raise ValueError(f"metrics of samples need at least 2 samples of an image, got {samples.shape[1]}")
    return to_float(samples).double().flatten(2), to_float(truth).double().flatten(1)


def features_of_samples(network: FeatureNetwork, samples: Tensor, truth: Pixels) -> Features:
    """Features [B, N, d] and probabilities [B, N, K] or None of samples uint8 [B, N, C, H, W], on the CPU.

    Errors as of :func:`sample_rows`.
    """
    sample_rows(samples, truth)
    B = len(samples)
    found = network.of_all(samples.flatten(0, 1))
    p = found.probabilities
    return Features(found.features.unflatten(0, (B, -1)), None if p is None else p.unflatten(0, (B, -1)))


def squared_error_of_mean(x: SampleRows, truth: ImageRows) -> PerImage:
    """mean over values of (mean over samples - truth)^2: rows [B, N, V] and [B, V] to [B]."""
    return (x.mean(1) - truth).square().mean(1)


def variance_of_samples(x: SampleRows) -> PerImage:
    """1/(N-1) sum_k (x_k - mean)^2, mean over values: rows [B, N, V] to [B]."""
    return (x - x.mean(1)[:, None]).square().sum(1).div(x.shape[1] - 1).mean(1)


def pairs_of_samples(x: SampleRows) -> PerImage:
    """Mean over pairs i < j of sqrt(mean over values of (x_i - x_j)^2): rows [B, N, V] to [B]."""
    N = x.shape[1]
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for i in range(N - 1):  # pair by pair with one sample at a time: N^2 images at once would not fit
        total += (x[:, i + 1 :] - x[:, i : i + 1]).square().mean(2).sqrt().sum(1)
    return total / (N * (N - 1) / 2)
