"""Gaussian noise in a picture that was saved: clipped to white and black, and rounded."""

from functools import cached_property

import torch
from torch import Tensor

from common.image_range import sigma_from, to_uint8
from common.random_streams import RandomStreams
from degradations.clipped_levels import ClippedLevels, edges, from_distribution, grid
from degradations.likelihood import level_bins, log_normal_interval
from degradations.unit_noise import UnitNoise


class ClippedGaussianNoise(UnitNoise):
    """v = round(255 clip(u + s n, 0, 1)) / 255, n ~ N(0, 1): what a published noisy PNG holds. The same n as
    GaussianNoise has.

    Exactly one of the three options is given. Published levels low/medium/high are sigma_unit 0.12/0.18/0.26 (Wang et
    al. 2021, 2112.06074). The attribute `sigma` is that before clipping; `rms` and `variance` are of what was stored.

    Args:
        sigma: 2 s, the standard deviation before clipping in [-1, 1] units, at least 0.
        sigma_255: the same in 0..255 units.
        sigma_unit: s itself, in [0, 1] units.

    Raises:
        ValueError: where none or several are given, or the level is negative or not finite.
    """

    clip = True

    def __init__(
        self, *, sigma: float | None = None, sigma_255: float | None = None, sigma_unit: float | None = None
    ) -> None:
        self.sigma = sigma_from(sigma=sigma, sigma_255=sigma_255, sigma_unit=sigma_unit)

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        return unit + self.sigma / 2 * random.normal("measurement", index, 0, tuple(unit.shape)).to(unit)

    def nats(self, v: Tensor, unit: Tensor) -> Tensor:
        """-log P(level | u): the normal law between the edges of the level; what was clipped counts for black and
        white."""
        return -log_normal_interval(*level_bins(v), unit, self.sigma / 2)

    @property
    def reach(self) -> float:
        """Never beyond [-1, 1], whatever the range of A x."""
        return min(super().reach, 2.0)

    @cached_property
    def _levels(self) -> ClippedLevels:
        below = torch.special.ndtr((edges() - grid()[:, None]) / max(self.sigma / 2, 1e-12))
        return from_distribution(below)

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """That of the values as they were stored, less than sigma in dark and bright pictures: 18.3 of 255 for 25 on
        handwritten digits. Read off the grey levels of y, see degradations/clipped_levels.py.
        """
        return 2 * self._levels.rms(to_uint8(y).long(), mask)

    def variance(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """4 E[(v - u)^2 | v], the same way."""
        return 4 * self._levels.variance(to_uint8(y).long(), mask).to(y)

    def __repr__(self) -> str:
        return f"ClippedGaussianNoise({self._and_level().removeprefix(', clip=True, ')})"
