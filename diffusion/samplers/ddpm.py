"""Ancestral sampling: the reverse chain of DDPM on any sub-list of levels."""

import math
from typing import Any, Literal

import torch

from common.random_streams import NoiseSequence
from common.tensor_shapes import Images
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict, Sampler, Step


class AncestralDDPM(Sampler):
    """x' = x0 + (sigma'^2 / sigma) eps + s z with s^2 = sigma'^2 (1 - sigma'^2 / sigma^2) ("fixed_small"): the
    posterior q(x' | x, x0).

    In these units the paper's mean c1 x0 + c2 x is x0 + (sigma'^2 / sigma^2) (x - x0), whatever levels were left out
    in between. "fixed_large" takes the variance beta = 1 - ab / ab' of the variance preserving chain instead, which
    is (sigma^2 - sigma'^2) / (1 + sigma^2) (1 + sigma'^2) here; it is bad with few steps. "learned" lies between
    them, s^2 = small^(1 - u) large^u, with the fraction u that the network gives for every value; it needs a
    denoiser that learned it, and suits few steps best. No noise is added on the step to 0, which gives x0. Order 1
    in distribution, one call a step. Ho et al. 2020 (2006.11239), equations 6 and 7; Nichol and Dhariwal 2021
    (2102.09672), equation 15 and section 4.

    Args:
        variance: "fixed_small", "fixed_large" or "learned".

    Raises:
        ValueError: others.
    """

    order = 1
    stochastic = True

    def __init__(self, *, variance: Literal["fixed_small", "fixed_large", "learned"] = "fixed_small") -> None:
        if variance not in ("fixed_small", "fixed_large", "learned"):
            raise ValueError(f"variance must be 'fixed_small', 'fixed_large' or 'learned', got '{variance}'")
        self.variance = variance

    def check(self, denoiser: Denoiser) -> None:
        if self.variance == "learned" and not denoiser.learns_variance:
            raise ValueError(
                f"the sampler's variance is 'learned', and the denoiser ({type(denoiser).__name__}) did not learn any:"
                " take 'fixed_small'"
            )

    def step(
        self, predict: Predict, x: Images, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None
    ) -> Step:
        prediction = predict(x, sigma)
        if sigma_next == 0:
            return Step(x=prediction.x0, prediction=prediction)
        removed = (sigma - sigma_next) * (sigma + sigma_next)  # sigma^2 - sigma'^2 without cancellation
        small, large = (
            sigma_next * math.sqrt(removed) / sigma,
            math.sqrt(removed / (1 + sigma**2) * (1 + sigma_next**2)),
        )
        fresh = {"fixed_small": small, "fixed_large": large}.get(self.variance)
        if fresh is None:
            if prediction.fraction is None:
                raise ValueError("the sampler's variance is 'learned', and the prediction has none")
            fresh = small * torch.exp(prediction.fraction * math.log(large / small))
        assert noise is not None  # `sample` asks for it
        x_next = prediction.x0 + (sigma_next**2 / sigma) * prediction.eps + fresh * noise.next().to(x.dtype)
        return Step(x=x_next, prediction=prediction)
