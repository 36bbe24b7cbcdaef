"""Every level counts the same on what the network predicts, whatever that is."""

import torch
from torch import Tensor

from diffusion.weighting.base import Weighting


class Target(Weighting):
    """w = 1 on the network's own target: the one weighting whose loss depends on the prediction.

    On x0 it is 1, SNR, SNR + 1, SNR + 1 / s^2 or (sqrt(SNR) + 1)^2 for prediction "x0", "epsilon", "v", "edm" or
    "velocity"; with the last it is the loss of flow matching (Lipman et al. 2023, 2210.02747).
    """

    of_target = True

    def on_x0(self, snr: Tensor) -> Tensor:
        """That of a network which predicts x0."""
        return torch.ones_like(snr)

    def __call__(self, snr: Tensor, prediction: str, sigma_data: float = 0.5) -> Tensor:
        return torch.ones_like(snr)
