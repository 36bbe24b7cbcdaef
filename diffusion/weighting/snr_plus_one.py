"""Every level counts the same on v."""

from torch import Tensor

from diffusion.weighting.base import Weighting


class SNRPlusOne(Weighting):
    """w = SNR + 1 on x0, which is 1 on v.

    Source: Salimans and Ho 2022 (2202.00512), section 4.
    """

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr + 1
