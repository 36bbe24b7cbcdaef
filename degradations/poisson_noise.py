"""Shot noise: the counting of photons."""

import math

import numpy as np
import torch
from scipy.special import pdtr, pdtrik
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.unit_noise import UnitNoise


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
        (Bernstein: beyond it 1 in 3e7).
        """
        return 2 * (6 * math.sqrt(self.scale) + 12) / self.scale

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        # One uniform per value, inverted: a count changes only where its own mean does, so that rounding errors of A x
        # on another device move nothing else.
        uniform = random.generator("measurement", index).random(tuple(unit.shape))
        mean = self.scale * unit.detach().double().clamp(min=0).cpu().numpy()
        return torch.from_numpy(counts(uniform, mean) / self.scale).to(unit)

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """2 sqrt(mean(v) / lambda): Var v = u / lambda, and E v = u."""
        return 2 * (self._mean((y + 1) / 2, mask).clamp(min=0) / self.scale).sqrt()

    def variance(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """4 v / lambda, whose mean is 4 Var v."""
        del mask
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
