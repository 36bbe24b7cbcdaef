"""Levels of little noise count no more than a bound."""

from torch import Tensor

from diffusion.weighting.base import Weighting, require_positive


class MinSNR(Weighting):
    """w = min(SNR, gamma) on x0.

    Args:
        gamma: the bound, positive; 5 is the paper's.

    Raises:
        ValueError: a gamma that is not positive.

    Source: Hang et al. 2023 (2303.09556), equation 8.
    """

    def __init__(self, *, gamma: float = 5.0) -> None:
        require_positive("gamma", gamma)
        self.gamma = gamma

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=self.gamma)
