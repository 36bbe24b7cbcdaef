"""Noise that is added to the measurement on purpose: how much of it an iterate has memorised says how much of the
measurement's own noise it has.
"""

from typing import Self

from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import images_mean
from restoration.stopping.staged import StagedWatch, StageOptions, Target


class InjectedNoise:
    """y + s eps with a frozen standard normal eps, never clipped; all means are over measured values, in [0, 1] units.

    residual r = mean((A f - y - s eps)^2); leak d = mean((A f - y) eps) / s, the share of eps that f has memorised
    (its degrees of freedom per value, by Stein's identity); memorised c = mean(sigma^2 (A f - y) eps) / s, which
    estimates mean((A f - A x) n), the part of the measurement's own noise n in f; risk R = r + 2 (c + s^2 d) -
    (sigma^2 + s^2), the mean of which is that of mean((A f - A x)^2) for Gaussian n: SURE without a divergence.

    Args:
        measurement: B images.
        eps: like y.
        level: s in [-1, 1] units, [B].
        variance: of n, sigma^2 in [-1, 1]^2 units, broadcasts to y: shot noise has less where it is dark, and dark and
            bright values are not memorised at the same time.
    """

    def __init__(self, measurement: Measurement, eps: Tensor, level: Tensor, variance: Tensor) -> None:
        mask = measurement.operator.mask
        self.mask = None if mask is None else mask.to(eps).expand_as(eps)
        self.measurement, self.eps = measurement, eps if self.mask is None else eps * self.mask
        self.level = level.double()
        self.y = measurement.y + level.to(eps).view(-1, *[1] * (eps.ndim - 1)) * self.eps
        self.sigma2 = variance.to(eps).expand_as(eps)
        self.own_variance = self.mean(self.sigma2) / 4
        self.variance = self.own_variance + self.level.square() / 4
        self._weighted = self.sigma2 * self.eps

    @classmethod
    def drawn(
        cls, measurement: Measurement, random: RandomStreams, stream: str, level: Tensor, variance: Tensor
    ) -> Self:
        """With an eps that is keyed by stream and image, and the same in whatever batch the image is."""
        y, index = measurement.y, list(measurement.index)
        eps = random.normal_batch(stream, index, [0] * len(index), y.shape[1:], y.device).to(y)
        return cls(measurement, eps, level, variance)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over measured values, float64 [B]."""
        if self.mask is None:
            return images_mean(values)
        return (values * self.mask).double().flatten(1).sum(1) / self.mask.double().flatten(1).sum(1)

    def judge(self, measured: Tensor) -> dict[str, Tensor]:
        """residual, leak, memorised and risk, each [B], of measured = A f."""
        residual = self.mean((measured - self.y).square()) / 4
        error = measured - self.measurement.y
        leak, memorised = self.mean(error * self.eps) / self.level, self.mean(error * self._weighted) / self.level / 4
        risk = residual + 2 * (memorised + self.level.square() / 4 * leak) - self.variance
        return {"residual": residual, "leak": leak, "memorised": memorised, "risk": risk}


def stacked(values: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    """Lists by name of dictionaries with the same names."""
    return {name: [v[name] for v in values] for name in values[0]}


class NoisyCopiesWatch(StagedWatch):
    """Fits the measurement with each of these injected noises, one after the other."""

    def __init__(
        self, measurement: Measurement, noises: list[InjectedNoise], options: StageOptions, iterations: int
    ) -> None:
        self._noises = noises
        targets = [Target(n.y, None, n.variance) for n in noises]
        super().__init__(measurement, targets, options, iterations=iterations, own_variance=noises[0].own_variance)
