"""The error of noise that a camera clipped, read off the grey levels of the picture itself."""

import torch
from torch import Tensor

#: Steps of expectation maximisation: the mean squared error moves by less than 1 % from 50 to 500.
_STEPS = 200
_LEVELS = 256


class ClippedLevels:
    """E[(v - u)^2] of clipped and rounded v given u, and the share of each u in a picture by maximum likelihood.

    What is clipped of a dark or a bright value is lost, so that no function of v alone has the mean E[(v - u)^2 | u]
    for every u. But the levels of a whole picture have the law sum_u pi(u) P(v | u), and pi is found by expectation
    maximisation (Laird 1978; Richardson-Lucy is the same iteration), from all u alike: pi <- pi sum_v h(v) P(v | u) /
    P(v), h the shares of the levels v. Then the error of a value is its mean under P(u | v), and that of the picture
    the mean over its values.

    Args:
        probabilities: P(v | u), float64 [256, 256], of the levels v = 0..255 (columns) for u = 0, 1/255, .., 1 (rows).
    """

    def __init__(self, probabilities: Tensor) -> None:
        grid = torch.arange(_LEVELS, dtype=torch.float64) / (_LEVELS - 1)
        self.probabilities = probabilities
        self.square = (probabilities * (grid - grid[:, None]).square()).sum(1)  # E[(v - u)^2 | u]

    def rms(self, levels: Tensor, mask: Tensor | None) -> Tensor:
        """sqrt(mean (v - u)^2) over measured values, for levels int64 [B, ...] in 0..255: float64 [B], intensities in
        [0, 1]."""
        share = self._shares(self._histogram(levels, mask))
        return (share @ self.square.to(share)).sqrt()

    def variance(self, levels: Tensor, mask: Tensor | None) -> Tensor:
        """E[(v - u)^2 | v] of every value: float64, like levels."""
        share = self._shares(self._histogram(levels, mask))
        chances = self.probabilities.to(share)
        table = share @ (chances * self.square.to(share)[:, None]) / (share @ chances).clamp(min=1e-300)
        return table.gather(1, levels.flatten(1)).view(levels.shape)

    def _shares(self, histogram: Tensor) -> Tensor:
        """pi, float64 [B, 256]."""
        chances = self.probabilities.to(histogram)
        share = torch.full_like(histogram, 1 / _LEVELS)
        for _ in range(_STEPS):
            share = share * ((histogram / (share @ chances).clamp(min=1e-300)) @ chances.mT)
        return share / share.sum(1, keepdim=True).clamp(min=1e-300)

    @staticmethod
    def _histogram(levels: Tensor, mask: Tensor | None) -> Tensor:
        """The shares of the levels among measured values, float64 [B, 256]."""
        measured = torch.ones_like(levels) if mask is None else mask.to(levels.device).expand(levels.shape)
        counts = torch.zeros(len(levels), _LEVELS, dtype=torch.float64, device=levels.device)
        counts.scatter_add_(1, levels.flatten(1), measured.flatten(1).double())
        return counts / counts.sum(1, keepdim=True).clamp(min=1)


def grid() -> Tensor:
    """The intensities 0, 1/255, .., 1: float64 [256]."""
    return torch.arange(_LEVELS, dtype=torch.float64) / (_LEVELS - 1)


def edges() -> Tensor:
    """Where a level ends and the next begins, (j + 1/2) / 255: float64 [255]."""
    return (torch.arange(_LEVELS - 1, dtype=torch.float64) + 0.5) / (_LEVELS - 1)


def from_distribution(below: Tensor) -> ClippedLevels:
    """The levels of a law with P(v <= edge j | u) = below[u, j]: float64 [256, 255]."""
    nothing, all_ = torch.zeros_like(below[:, :1]), torch.ones_like(below[:, :1])
    return ClippedLevels(torch.cat([nothing, below, all_], 1).diff(dim=1).clamp(min=0))
