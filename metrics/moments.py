"""First and second moments of features, exact over batches and processes."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """n, s = sum f, Q = sum f f^T of features f; all sums in float64, so that any split into batches or processes gives
    the same to rounding.

    Args:
        count: n.
        total: s [d].
        outer: Q [d, d].
    """

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """The moments of features [n, d]; n may be 0. ValueError for another shape or values that are not finite."""
        if features.ndim != 2:
            raise ValueError(f"features must be [n, d], got {list(features.shape)}")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features must be finite: the images or the network give NaN or infinity")
        f = features.detach().double().cpu()
        return cls(len(f), f.sum(0), f.T @ f)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        """Without a part of the features: what a jackknife asks for."""
        return Moments(self.count - other.count, self.total - other.total, self.outer - other.outer)

    @property
    def dimension(self) -> int:
        return len(self.total)

    @property
    def mean(self) -> Tensor:
        """s / n, [d]; ValueError without features."""
        if self.count < 1:
            raise ValueError("the mean of no features is not defined")
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(Q - s s^T / n) / (n - 1), [d, d]: unbiased; ValueError for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.count}")
        return (self.outer - torch.outer(self.total, self.total) / self.count) / (self.count - 1)


@dataclass(frozen=True)
class MeanAndCovariance:
    """What is left of features whose number is not known.

    Args:
        mean: float64 [d].
        covariance: unbiased, float64 [d, d].
    """

    mean: Tensor
    covariance: Tensor

    @property
    def dimension(self) -> int:
        return len(self.mean)
