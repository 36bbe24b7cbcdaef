"""How much each noise level counts in training: a weight on the squared error of x0, converted to the target that the
network has.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

WEIGHTINGS = ("simple", "target", "min_snr", "soft_min_snr", "snr_plus_one", "truncated_snr", "p2", "edm")


@dataclass(frozen=True)
class Weighting:
    """w(SNR) of the squared error, SNR = alpha_bar / (1 - alpha_bar) = 1 / sigma^2; g is min_snr_gamma, s is
    sigma_data.

    | name          | on x0                  | uniform on, or source
    |
    |---------------|------------------------|---------------------------------------------------------------------------|
    | simple        | SNR                    | epsilon: Ho et al. 2020 (2006.11239), equation 14 | | target        | 1,
    SNR, SNR + 1, ...   | the network's own target | | snr_plus_one  | SNR + 1                | v: Salimans and Ho 2022
    (2202.00512), section 4 | | truncated_snr | max(SNR, 1)            | the same | | min_snr       | min(SNR, g)
    | Hang et al. 2023 (2303.09556), equation 8 | | soft_min_snr  | g SNR / (SNR + g)      | Crowson et al. 2024
    (2401.11605), there with g = 4 | | p2            | SNR / (k + SNR)^gamma  | Choi et al. 2022 (2204.00227), k = p2_k,
    gamma = p2_gamma | | edm           | SNR + 1 / s^2          | the target of EDM, lambda(sigma) of Karras et al. 2022
    (2206.00364) |

    One estimate of x0 has the errors MSE_epsilon = SNR MSE_x0, MSE_v = (SNR + 1) MSE_x0 and MSE_F = (SNR + 1 / s^2)
    MSE_x0 (F: the network of EDM), by whose factors the weight is divided: a loss is the same whatever the network
    predicts. ValueError for an unknown name or numbers that are not positive (p2_gamma: negative).
    """

    name: str = "simple"
    min_snr_gamma: float = 5.0
    p2_k: float = 1.0
    p2_gamma: float = 1.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got '{self.name}'")
        for option in ("min_snr_gamma", "p2_k", "sigma_data"):
            if not 0 < getattr(self, option) < float("inf"):
                raise ValueError(f"{option} must be positive, got {getattr(self, option)}")
        if not 0 <= self.p2_gamma < float("inf"):
            raise ValueError(f"p2_gamma must be at least 0, got {self.p2_gamma}")

    def __call__(self, snr: Tensor, prediction: str) -> Tensor:
        """The weight of the squared error on the target of `prediction` ("epsilon", "x0", "v" or "edm"), of the shape
        of snr; snr >= 0, 0 not for epsilon.
        """
        if self.name == "target":
            return torch.ones_like(snr)
        on_target = {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1, "edm": snr + self.sigma_data**-2}[
            prediction
        ]
        return self._on_x0(snr) / on_target

    def _on_x0(self, snr: Tensor) -> Tensor:
        if self.name == "simple":
            return snr
        if self.name == "min_snr":
            return snr.clamp(max=self.min_snr_gamma)
        if self.name == "soft_min_snr":
            return self.min_snr_gamma * snr / (snr + self.min_snr_gamma)
        if self.name == "snr_plus_one":
            return snr + 1
        if self.name == "truncated_snr":
            return snr.clamp(min=1)
        if self.name == "p2":
            return snr / (self.p2_k + snr).pow(self.p2_gamma)
        return snr + self.sigma_data**-2
