"""How much each noise level counts in training: a weight on the squared error of x0, whatever the network predicts."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from common.build import Recorded


class Weighting(Recorded, ABC):
    """w(SNR) of the squared error of x0, SNR = alpha_bar / (1 - alpha_bar) = 1 / sigma^2. A new one is one file with
    one equation, :meth:`on_x0`.

    The loss is taken on the network's own target, whose error is that of x0 times a factor (:func:`target_factor`);
    the weight is divided by it, so that a loss is the same whatever the network predicts.

    of_target: whether the weight is meant on the network's target itself, and the loss depends on the prediction.
    """

    of_target: bool = False

    @abstractmethod
    def on_x0(self, snr: Tensor) -> Tensor:
        """w >= 0 of the shape of `snr`, which is at least 0 and finite."""

    def __call__(self, snr: Tensor, prediction: str, sigma_data: float = 0.5) -> Tensor:
        """The weight of the squared error on the network's own target.

        Args:
            snr: [B], or a map [B, 1, H, W]; at least 0, and not 0 for prediction "epsilon".
            prediction: "epsilon", "x0", "v", "edm" or "velocity".
            sigma_data: that of prediction "edm".
        """
        return self.on_x0(snr) / target_factor(snr, prediction, sigma_data)

    def check(self, prediction: str, sigma_data: float) -> None:
        """ValueError where the weighting does not suit a network of this prediction; here nothing is unsuitable."""
        del prediction, sigma_data


def target_factor(snr: Tensor, prediction: str, sigma_data: float = 0.5) -> Tensor:
    """MSE of the target over MSE of x0, of one estimate: SNR for epsilon, 1 for x0, SNR + 1 for v, SNR + 1 / s^2 for
    the target of "edm" with s = sigma_data, (sqrt(SNR) + 1)^2 = 1 / t^2 for velocity. ValueError for another
    prediction.
    """
    if prediction == "x0":
        return torch.ones_like(snr)
    if prediction == "epsilon":
        return snr
    if prediction == "v":
        return snr + 1
    if prediction == "edm":
        return snr + sigma_data**-2
    if prediction == "velocity":
        return (snr.sqrt() + 1).square()
    raise ValueError(f"prediction must be epsilon, x0, v, edm or velocity, got '{prediction}'")


def require_positive(name: str, value: float) -> None:
    """ValueError unless `value` is positive and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}")
