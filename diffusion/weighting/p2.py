"""Levels at which details alone are left to learn count less."""

from torch import Tensor

from diffusion.weighting.base import Weighting, require_positive


class P2(Weighting):
    """w = SNR / (k + SNR)^gamma on x0.

    Args:
        k: keeps the weight finite where there is most noise, positive; 1 is the paper's.
        gamma: how strongly details are discounted, at least 0 (0 is Simple); the paper has 0.5 or 1 by data set.

    Raises:
        ValueError: numbers out of range.

    Source: Choi et al. 2022 (2204.00227).
    """

    def __init__(self, *, k: float = 1.0, gamma: float = 1.0) -> None:
        require_positive("k", k)
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma must be at least 0 and finite, got {gamma}")
        self.k, self.gamma = k, gamma

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr / (self.k + snr).pow(self.gamma)
