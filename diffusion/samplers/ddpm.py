"""Ancestral sampling: the reverse chain of DDPM on any sub-list of levels."""

import math
from typing import Any, Literal

from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.samplers.base import Predict, Sampler, Step


class AncestralDDPM(Sampler):
    """x' = x0 + (sigma'^2 / sigma) eps + s z with s^2 = sigma'^2 (1 - sigma'^2 / sigma^2) ("fixed_small"): the posterior q(x' | x, x0).

    In these units the paper's mean c1 x0 + c2 x is x0 + (sigma'^2 / sigma^2) (x - x0), whatever levels were left out in between. "fixed_large" takes the
    variance beta = 1 - ab / ab' of the variance preserving chain instead, which is (sigma^2 - sigma'^2) / (1 + sigma^2) (1 + sigma'^2) here; it is bad
    with few steps. No noise is added on the step to 0, which gives x0. Order 1 in distribution, one call a step.
    Ho et al. 2020 (2006.11239), equations 6 and 7. variance: "fixed_small" or "fixed_large"; ValueError for others.
    """

    order = 1
    stochastic = True

    def __init__(self, *, variance: Literal["fixed_small", "fixed_large"] = "fixed_small") -> None:
        if variance not in ("fixed_small", "fixed_large"):
            raise ValueError(f"variance must be 'fixed_small' or 'fixed_large', got '{variance}'")
        self.variance = variance

    def step(self, predict: Predict, x: Tensor, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None) -> Step:
        prediction = predict(x, sigma)
        if sigma_next == 0:
            return Step(x=prediction.x0, prediction=prediction)
        removed = (sigma - sigma_next) * (sigma + sigma_next)  # sigma^2 - sigma'^2 without cancellation
        if self.variance == "fixed_small":
            fresh = sigma_next * math.sqrt(removed) / sigma
        else:
            fresh = math.sqrt(removed / (1 + sigma**2) * (1 + sigma_next**2))
        x_next = prediction.x0 + (sigma_next**2 / sigma) * prediction.eps + fresh * noise.next().to(x.dtype)
        return Step(x=x_next, prediction=prediction)
