"""Every level counts the same on the target of EDM."""

from torch import Tensor

from diffusion.weighting.base import Weighting, require_positive


class EDM(Weighting):
    """w = SNR + 1 / s^2 on x0, s = sigma_data: lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2, which is 1 on the target
    of prediction "edm".

    Args:
        sigma_data: s, the standard deviation of the data in [-1, 1], positive; with prediction "edm" that of the
            network (model.sigma_data).

    Raises:
        ValueError: a sigma_data that is not positive.

    Source: Karras et al. 2022 (2206.00364), table 1.
    """

    def __init__(self, *, sigma_data: float = 0.5) -> None:
        require_positive("sigma_data", sigma_data)
        self.sigma_data = sigma_data

    def on_x0(self, snr: Tensor) -> Tensor:
        return snr + self.sigma_data**-2

    def check(self, prediction: str, sigma_data: float) -> None:
        if prediction == "edm" and sigma_data != self.sigma_data:
            raise ValueError(
                f"weighting EDM has sigma_data {self.sigma_data}, and the network is scaled for {sigma_data}: set"
                f" model.weighting.init_args.sigma_data to {sigma_data} as model.sigma_data"
            )
