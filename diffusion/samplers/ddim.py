"""DDIM(eta): from deterministic (eta = 0, Euler's method in sigma) to ancestral (eta = 1)."""

import math
from typing import Any

from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.samplers.base import Predict, Sampler, Step


class DDIM(Sampler):
    """x' = x0 + sigma' (sqrt(1 - u^2) eps + u z), u = eta sqrt((1 - sigma'^2 / sigma^2) / (1 + sigma'^2))... in the units x = x0 + sigma * noise.

    With alpha_bar = 1 / (1 + sigma^2) the paper's standard deviation is s = eta sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab'), divided by sqrt(ab') in these
    units. eta = 0 is Euler's method for dx/dsigma = eps: order 1, one call a step. Song et al. 2020 (2010.02502), equations 12 and 16.
    eta: 0..1; ValueError outside.
    """

    order = 1

    def __init__(self, *, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}")
        self.eta = eta
        self.stochastic = eta > 0

    def step(self, predict: Predict, x: Tensor, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None) -> Step:
        prediction = predict(x, sigma)
        # sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab') / sqrt(ab') = (sigma' / sigma) sqrt(sigma^2 - sigma'^2), all in sigma
        fresh = self.eta * sigma_next / sigma * math.sqrt(sigma**2 - sigma_next**2)
        kept = math.sqrt(max(sigma_next**2 - fresh**2, 0.0))
        x_next = prediction.x0 + kept * prediction.eps
        if fresh > 0:
            x_next = x_next + fresh * noise.next().to(x.dtype)
        return Step(x=x_next, prediction=prediction)
