"""Every level counts the same on epsilon."""

from torch import Tensor

from diffusion.weighting.base import Weighting


class Simple(Weighting):
    """w = SNR on x0, which is 1 on epsilon.

    Source: Ho et al. 2020 (2006.11239), equation 14.
    """

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr
