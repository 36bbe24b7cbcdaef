"""Impulse noise: values that are lost."""

import math
from typing import Literal

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.likelihood import level_bins, log_normal_interval
from degradations.unit_noise import UnitNoise

#: Half a grey level, what a kept value is known to.
_POINT = 1 / 510

Kind = Literal["salt_and_pepper", "salt", "pepper", "uniform"]


class ImpulseNoise(UnitNoise):
    """v = u with probability 1 - p, else something that says nothing about u: 0 or 1 (salt and pepper), 1, 0, or U(0,
    1); each channel value by itself.

    Published levels low/medium/high are 0.3/0.5/0.7, salt and pepper (Wang et al. 2021, 2112.06074). `sigma` = sqrt(p),
    for "uniform" sqrt(p / 3): the rms error at mid grey in [-1, 1] units.

    Args:
        probability: p.
        kind: what replaces a value.
        clip: to [0, 1] and 256 levels.

    Raises:
        ValueError: where p is not in [0, 1].
    """

    def __init__(self, *, probability: float, kind: Kind = "salt_and_pepper", clip: bool = False) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {probability}")
        if kind not in ("salt_and_pepper", "salt", "pepper", "uniform"):
            raise ValueError(f"kind must be salt_and_pepper, salt, pepper or uniform, got '{kind}'")
        self.probability, self.kind, self.clip = float(probability), kind, clip
        self.sigma = math.sqrt(self.probability / (3 if kind == "uniform" else 1))

    @property
    def reach(self) -> float:
        """2: an impulse is in [-1, 1], which lies beyond the range of an operator that keeps within less."""
        return 2.0

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        # The same uniform says whether, and which: given that it is below p, uniform / p is again uniform.
        uniform = torch.from_numpy(random.generator("measurement", index).random(tuple(unit.shape)))
        share = uniform / max(self.probability, 1e-300)
        values = {
            "salt_and_pepper": (share < 0.5).double(),
            "salt": torch.ones_like(share),
            "pepper": torch.zeros_like(share),
            "uniform": share,
        }
        return torch.where((uniform < self.probability).to(unit.device), values[self.kind].to(unit), unit)

    def nats(self, v: Tensor, unit: Tensor) -> Tensor:
        """-log((1 - p) P(level | kept) + p P(level | lost)): the mixture, as the probability of the grey level next to
        v.

        A kept value is u itself, whose likelihood is a point: it is widened to a normal law of half a grey level, so
        that there is a gradient. Far from u a value was lost, and says nothing: the gradient vanishes.
        """
        low, high = level_bins(v)
        kept = log_normal_interval(low, high, unit, _POINT) + math.log(max(1 - self.probability, 1e-300))
        width = (high.clamp(max=1) - low.clamp(min=0)).clamp(min=0)
        black, white = (low < 0).to(v), (high > 1).to(v)
        chance = {"salt_and_pepper": (black + white) / 2, "salt": white, "pepper": black, "uniform": width}[self.kind]
        lost = (self.probability * chance).log()
        return -torch.logaddexp(kept, lost)

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """2 sqrt(p (mean u^2 - 2 m1 mean u + m2)) with the moments m1, m2 of what replaces a value, and those of u from
        E v^k = (1 - p) u^k + p m_k.
        """
        first, second = {
            "salt_and_pepper": (0.5, 0.5),
            "salt": (1.0, 1.0),
            "pepper": (0.0, 0.0),
            "uniform": (0.5, 1 / 3),
        }[self.kind]
        kept = max(1 - self.probability, 1e-6)
        v = (y + 1) / 2
        mean = ((self._mean(v, mask) - self.probability * first) / kept).clamp(0, 1)
        square = ((self._mean(v.square(), mask) - self.probability * second) / kept).clamp(0, 1)
        return 2 * (self.probability * (square - 2 * first * mean + second).clamp(min=0)).sqrt()

    def __repr__(self) -> str:
        return f"ImpulseNoise(probability={self.probability:g}, kind={self.kind}{self._and_level()})"
