"""Shot noise: the counting of photons."""

import math
from functools import cached_property

import numpy as np
import torch
from scipy.special import pdtr, pdtrik
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.clipped_levels import ClippedLevels, edges, from_distribution, grid
from degradations.likelihood import level_bins
from degradations.unit_noise import UnitNoise

#: Mean counts from which on the logarithm is exact: a tenth of a grey level of a camera that counts 2.5 at white.
_DARK = 1e-3
#: Probabilities above this are differences of distribution functions; below it the tail is a geometric series.
_SAFE = 1e-12


class PoissonNoise(UnitNoise):
    """v = k / lambda, k ~ Poisson(lambda u): E v = u, Var v = u / lambda, for intensities u in [0, 1]; no light (0)
    where A x is below -1.

    Args:
        scale: lambda, the mean count of white.
        clip: to [0, 1] and 256 levels; published levels low/medium/high are 25/12/5, clipped (Wang et al. 2021,
            2112.06074). `sigma` = sqrt(2 / lambda), that of mid grey in [-1, 1] units.

    Raises:
        ValueError: where scale is not positive.
    """

    def __init__(self, *, scale: float, clip: bool = False) -> None:
        if not 0 < scale <= 1e6:
            raise ValueError(f"scale, the mean count of a white value, must be positive and at most 1e6, got {scale}")
        self.scale, self.clip = float(scale), clip
        self.sigma = math.sqrt(2 / self.scale)

    @property
    def reach(self) -> float:
        """2 (6 sqrt(lambda) + 12) / lambda: 6 standard deviations of white, and the longer tail of few counts
        (Bernstein: beyond it 1 in 3e7). Clipped, never beyond [-1, 1], whatever the range of A x.
        """
        reach = 2 * (6 * math.sqrt(self.scale) + 12) / self.scale
        return min(reach, 2.0) if self.clip else reach

    def nats(self, v: Tensor, unit: Tensor) -> Tensor:
        """m - k log m for k = lambda v counts of mean m = lambda u; clipped, -log P(the counts that are stored as v).

        Below _DARK counts, where log m falls to minus infinity, its tangent goes on: a count in the dark is finitely
        unlikely, and the gradient leads out of it.
        """
        mean = self.scale * unit
        if not self.clip:
            return mean.clamp(min=0) - self.scale * v * _log(mean)
        return -log_counts(*self._counts_of(v), mean)

    def _counts_of(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest count that is stored as the grey level next to v; infinity at white."""
        low, high = level_bins(v)
        nearest = (self.scale * v).round().clamp(min=0)
        least = torch.ceil(self.scale * low).clamp(min=0)
        most = torch.where(high > 1, torch.inf, torch.ceil(self.scale * high) - 1)
        # a level between two counts is that of the nearest, moved by rounding
        between = most < least
        return torch.where(between, nearest, least), torch.where(between, nearest, most)

    @cached_property
    def _levels(self) -> ClippedLevels:
        most = torch.ceil(self.scale * edges()) - 1  # the largest count below an edge, -1 for none
        count = (most + 1).clamp(min=1).expand(256, -1).contiguous()
        mean = (self.scale * grid())[:, None].expand(-1, 255).contiguous()
        return from_distribution(torch.where(most < 0, 0.0, torch.special.gammaincc(count, mean)))

    def _level(self, y: Tensor) -> Tensor:
        """The grey level of every value; that of its count where a level holds no more than one, so that half a level
        is not split in two by rounding errors."""
        v = (y.double() + 1) / 2
        if self.scale < 255:
            v = (255 / self.scale * (self.scale * v).round() + 0.5).floor() / 255
        return (255 * v).round().clamp(0, 255).long()

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        # One uniform per value, inverted: a count changes only where its own mean does, so that rounding errors of A x
        # on another device move nothing else.
        uniform = random.generator("measurement", index).random(tuple(unit.shape))
        mean = self.scale * unit.detach().double().clamp(min=0).cpu().numpy()
        return torch.from_numpy(counts(uniform, mean) / self.scale).to(unit)

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """2 sqrt(mean(v) / lambda): Var v = u / lambda, and E v = u. Clipped, see degradations/clipped_levels.py."""
        if self.clip:
            return 2 * self._levels.rms(self._level(y), mask)
        return 2 * (self._mean((y + 1) / 2, mask).clamp(min=0) / self.scale).sqrt()

    def variance(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """4 v / lambda, whose mean is 4 Var v; clipped, 4 E[(v - u)^2 | v]."""
        if self.clip:
            return 4 * self._levels.variance(self._level(y), mask).to(y)
        return 2 * (y + 1).clamp(min=0) / self.scale

    def __repr__(self) -> str:
        return f"PoissonNoise(scale={self.scale:g}{self._and_level()})"


def counts(uniform: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The least k with P(K <= k) > uniform, K ~ Poisson(mean): float64, 0 where mean is 0."""
    safe = np.maximum(mean, 1e-30)
    found = np.maximum(np.ceil(np.nan_to_num(pdtrik(uniform, safe))), 0)
    # The continuous inverse is exact to rounding: a step down or up mends what it moved across a whole number.
    found = np.where((found > 0) & (pdtr(np.maximum(found - 1, 0), safe) > uniform), found - 1, found)
    found = np.where(pdtr(found, safe) <= uniform, found + 1, found)
    return np.where(mean > 0, found, 0.0)


def log_counts(least: Tensor, most: Tensor, mean: Tensor) -> Tensor:
    """log P(least <= K <= most), K ~ Poisson(mean): float64, differentiable in mean; most may be infinite.

    One count: the law itself. Several: the difference of two distribution functions, and where that is below 1e-12,
    from the count nearest to the mean on, a geometric series with the ratio of its first two terms.
    """
    positive = mean.clamp(min=_DARK)
    last = most.clamp(max=1e9)  # a number for what is infinite
    near = torch.minimum(torch.maximum(mean.detach(), least), last).round()
    first = near * _log(mean) - mean.clamp(min=0) - torch.lgamma(near + 1)
    upper = (near / positive).clamp(max=1 - 1e-6)  # towards fewer counts, from the most
    lower = (positive / (near + 1)).clamp(max=1 - 1e-6)  # towards more, from the least
    ratio = torch.where(mean.detach() < least, lower, upper)
    series = torch.log1p(-(ratio ** (last - least + 1))) - torch.log1p(-ratio)
    below = torch.special.gammainc(least.clamp(min=1), positive)  # P(K >= least)
    above = torch.special.gammainc(last + 1, positive)  # P(K > most)
    chance = torch.where(least > 0, below, 1.0) - torch.where(torch.isinf(most), 0.0, above)
    chance = torch.where(mean.detach() > last, _below(least, last, positive), chance)
    # in the dark, where `positive` stands still, the tangent of the logarithm has the gradient
    several, safe = most > least, (chance.detach() > _SAFE) & ((mean.detach() > _DARK) | (least == 0))
    summed = torch.where(safe, torch.log(torch.where(safe, chance, 1.0)), first + series)
    return torch.where(several, summed, first)


def _below(least: Tensor, most: Tensor, mean: Tensor) -> Tensor:
    """P(least <= K <= most) from the lower tail, for a mean above most."""
    under = torch.where(least > 0, torch.special.gammaincc(least.clamp(min=1), mean), 0.0)
    return torch.special.gammaincc(most + 1, mean) - under


def _log(mean: Tensor) -> Tensor:
    """log m, from _DARK counts on; its tangent there below."""
    return torch.where(mean > _DARK, mean.clamp(min=_DARK).log(), math.log(_DARK) + (mean - _DARK) / _DARK)
