"""Min-SNR without its corner."""

from torch import Tensor

from diffusion.weighting.base import Weighting, require_positive


class SoftMinSNR(Weighting):
    """w = gamma SNR / (SNR + gamma) on x0; for gamma = 1 / sigma_data^2 it is (sigma s)^2 / (sigma^2 + s^2)^2 on EDM's
    target.

    Args:
        gamma: what w comes to at little noise, positive; 5 as in Min-SNR, 4 in the paper.

    Raises:
        ValueError: a gamma that is not positive.

    Source: Crowson et al. 2024 (2401.11605).
    """

    def __init__(self, *, gamma: float = 5.0) -> None:
        require_positive("gamma", gamma)
        self.gamma = gamma

    def on_x0(self, snr: Tensor) -> Tensor:
        return self.gamma * snr / (snr + self.gamma)
