"""Levels of much noise count no less than those of the image's own strength."""

from torch import Tensor

from diffusion.weighting.base import Weighting


class TruncatedSNR(Weighting):
    """w = max(SNR, 1) on x0.

    Source: Salimans and Ho 2022 (2202.00512), section 4.
    """

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr.clamp(min=1)
