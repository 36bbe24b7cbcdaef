"""Speckle: noise in proportion to the light."""

from functools import cached_property

import torch
from torch import Tensor

from common.image_range import to_uint8
from common.random_streams import RandomStreams
from degradations.clipped_levels import ClippedLevels, edges, from_distribution, grid
from degradations.likelihood import level_bins, log_normal_interval
from degradations.unit_noise import UnitNoise

#: Half a grey level.
_LEAST = 1 / 510


class SpeckleNoise(UnitNoise):
    """v = u (1 + s n), n ~ N(0, 1) for each value: Var v = s^2 u^2.

    Args:
        sigma_unit: s.
        clip: to [0, 1] and 256 levels; published levels low/medium/high are 0.20/0.35/0.45, clipped (Wang et al. 2021,
            2112.06074). `sigma` = s, which is that of mid grey (s / 2) in [-1, 1] units.

    Raises:
        ValueError: where s is negative.
    """

    def __init__(self, *, sigma_unit: float, clip: bool = False) -> None:
        if not 0 <= sigma_unit < float("inf"):
            raise ValueError(f"sigma_unit must be finite and at least 0, got {sigma_unit}")
        self.sigma_unit, self.clip = float(sigma_unit), clip
        self.sigma = self.sigma_unit

    @property
    def reach(self) -> float:
        """12 s: 6 standard deviations of white. Clipped, never beyond [-1, 1], whatever the range of A x."""
        return min(12 * self.sigma_unit, 2.0) if self.clip else 12 * self.sigma_unit

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        noise = random.normal("measurement", index, 0, tuple(unit.shape)).to(unit)
        return unit * (1 + self.sigma_unit * noise)

    def nats(self, v: Tensor, unit: Tensor) -> Tensor:
        """(v - u)^2 / (2 s^2 u^2) + log u; clipped, -log P(level | u): the normal law between the edges of the level.

        u counts as half a grey level at least: black has no noise and its density no bound, nor is there light below.
        """
        light = unit.clamp(min=_LEAST)
        if self.clip:
            return -log_normal_interval(*level_bins(v), unit, self.sigma_unit * light)
        return ((v - unit) / (self.sigma_unit * light)).square() / 2 + light.log()

    @cached_property
    def _levels(self) -> ClippedLevels:
        unit = grid()[:, None]
        return from_distribution(torch.special.ndtr((edges() - unit) / (self.sigma_unit * unit).clamp(min=1e-12)))

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """2 s sqrt(mean(v^2) / (1 + s^2)): Var v = s^2 u^2, and E v^2 = (1 + s^2) u^2. Clipped, see
        degradations/clipped_levels.py.
        """
        if self.clip:
            return 2 * self._levels.rms(to_uint8(y).long(), mask)
        square = self._mean(((y + 1) / 2).square(), mask)
        return 2 * self.sigma_unit * (square / (1 + self.sigma_unit**2)).sqrt()

    def variance(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """4 s^2 v^2 / (1 + s^2), whose mean is 4 Var v; clipped, 4 E[(v - u)^2 | v]."""
        if self.clip:
            return 4 * self._levels.variance(to_uint8(y).long(), mask).to(y)
        return (self.sigma_unit * (y + 1)).square() / (1 + self.sigma_unit**2)

    def __repr__(self) -> str:
        return f"SpeckleNoise(sigma_unit={self.sigma_unit:g}{self._and_level()})"
