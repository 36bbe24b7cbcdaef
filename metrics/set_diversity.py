"""How different the images of one set are from each other: what a generator that collapses loses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import DistributionMetric
from metrics.features import Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.moments import Moments


class FeatureDistance(DistributionMetric):
    """sqrt(mean over pairs of |f(x) - f(y)|^2) of the images of one set, 0 if all are alike; the reference is not
    looked at. To be read beside the value of real images: below it a generator collapses, so neither end is
    best. See :func:`set_diversity`.

    Args:
        features: the network; values of one network can be compared.
    """

    label = "feature distance"
    lowest = 0.0

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        return _left_out(_blocks(found.features, 20), _feature_distance)


class FeatureDimensions(DistributionMetric):
    """(tr S)^2 / tr S^2 of the covariance S of the features: about the number of directions in which the images of one
    set vary, 1 .. d, so neither end is best; the reference is not looked at. See :func:`set_diversity`.

    Args:
        features: the network; compare sets of one size in one network.
    """

    label = "feature dimensions"
    lowest = 0.0

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        return _left_out(_blocks(found.features, 20), _dimensions)


@dataclass(frozen=True)
class SetDiversity:
    """Three numbers of N images, with intervals for another draw of N images by a jackknife over blocks.

    Args:
        pixel_rmse: sqrt(mean over pairs of |x - y|^2 / (C H W)), in grey levels 0..255.
        feature_distance: sqrt(mean over pairs of |f(x) - f(y)|^2) for the features f of a network, in its units:
            compare within one network.
        feature_dimensions: (tr S)^2 / tr S^2 of the covariance S of the features, about the number of directions the
            set varies in: 1 on a line, d for d equal variances; too low for N near d, so compare at equal N. NaN where
            all features are equal.
    """

    pixel_rmse: Estimate
    feature_distance: Estimate
    feature_dimensions: Estimate


def set_diversity(pixels: Tensor, features: Tensor, *, blocks: int = 20) -> SetDiversity:
    """The diversity of images uint8 [N, C, H, W] with features [N, d], row by row the same images in the order of their
    indices.

    Exact for all N (N - 1) / 2 pairs without a loop over them: mean_{i < j} |v_i - v_j|^2 = 2 tr S with the unbiased
    covariance S; in float64. ValueError for N < 4, rows that do not belong together, or values that are not finite;
    TypeError for pixels that are not 8-bit.
    """
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels must be uint8, got {pixels.dtype}")
    if pixels.ndim != 4 or features.ndim != 2 or len(pixels) != len(features):
        raise ValueError(
            f"expected pixels [N, C, H, W] and features [N, d] of the same N, got {list(pixels.shape)} and"
            f" {list(features.shape)}"
        )
    moments = _blocks(features, blocks)
    return SetDiversity(
        pixel_rmse=_left_out(
            [_PixelSums.of(part) for part in blocks_of(pixels, blocks)], lambda s: (2 * s.variance / s.values) ** 0.5
        ),
        feature_distance=_left_out(moments, _feature_distance),
        feature_dimensions=_left_out(moments, _dimensions),
    )


@dataclass(frozen=True)
class _PixelSums:
    """n, sum x and sum x^2 of 8-bit images, per value and exact."""

    count: int
    total: Tensor
    square: Tensor

    @classmethod
    def of(cls, pixels: Tensor) -> "_PixelSums":
        total = torch.zeros(pixels[0].numel(), dtype=torch.int64)
        square = torch.zeros_like(total)
        for part in pixels.flatten(1).split(256):  # eight bytes per value for a few images at a time
            whole = part.cpu().long()
            total += whole.sum(0)
            square += whole.square().sum(0)
        return cls(len(pixels), total, square)

    def __add__(self, other: "_PixelSums") -> "_PixelSums":
        return _PixelSums(self.count + other.count, self.total + other.total, self.square + other.square)

    def __sub__(self, other: "_PixelSums") -> "_PixelSums":
        return _PixelSums(self.count - other.count, self.total - other.total, self.square - other.square)

    @property
    def values(self) -> int:
        return len(self.total)

    @property
    def variance(self) -> float:
        """tr S = sum over values of (n sum x^2 - (sum x)^2) / (n (n - 1)), the numerators in whole numbers (below 2^63
        up to ten million images).
        """
        numerators = self.count * self.square - self.total.square()
        return float(numerators.double().sum()) / (self.count * (self.count - 1))


def _blocks(features: Tensor, blocks: int) -> list[Moments]:
    """Moments of blocks of neighbours. A mean that is taken off changes no difference, and keeps the digits of features
    that lie far from 0.
    """
    centred = features.detach().double().cpu()
    centred = centred - centred.mean(0)
    return [Moments.of(part) for part in blocks_of(centred, blocks)]


def _feature_distance(moments: Moments) -> float:
    return max(0.0, float(moments.covariance.trace())) ** 0.5 * 2**0.5


def _dimensions(moments: Moments) -> float:
    S = moments.covariance
    square = float(S.square().sum())
    return float(S.trace()) ** 2 / square if square > 0 else float("nan")


def _left_out(parts: list, value: Callable) -> Estimate:
    whole = sum(parts[1:], parts[0])
    return jackknife(value(whole), [value(whole - part) for part in parts], images=whole.count, lowest=0.0)
