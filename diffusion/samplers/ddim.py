"""DDIM(eta): from deterministic (eta = 0, Euler's method in sigma) to ancestral (eta = 1)."""

import math
from typing import Any

from common.random_streams import NoiseSequence
from common.tensor_shapes import Images
from diffusion.samplers.base import Predict, Sampler, Step


class DDIM(Sampler):
    """x' = x0 + sqrt(sigma'^2 - s^2) eps + s z with s = eta (sigma' / sigma) sqrt(sigma^2 - sigma'^2), in the units x =
    x0 + sigma * noise.

    s is the paper's standard deviation divided by sqrt(alpha_bar'). eta = 0 is Euler's method for dx/dsigma = eps:
    order 1, one call a step; eta = 1 is the ancestral chain with the small variance. Song et al. 2020 (2010.02502),
    equations 12 and 16.

    Args:
        eta: 0..1.

    Raises:
        ValueError: outside.
    """

    order = 1

    def __init__(self, *, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}")
        self.eta = eta
        self.stochastic = eta > 0

    def step(
        self, predict: Predict, x: Images, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None
    ) -> Step:
        prediction = predict(x, sigma)
        if sigma_next == 0:
            return Step(x=prediction.x0, prediction=prediction)
        # sigma'^2 - s^2 without cancellation: sigma'^2 (1 - eta^2 + eta^2 (sigma' / sigma)^2).
        kept = sigma_next * math.sqrt(1 - self.eta**2 + (self.eta * sigma_next / sigma) ** 2)
        x_next = prediction.x0 + kept * prediction.eps
        if self.eta > 0:
            fresh = self.eta * sigma_next / sigma * math.sqrt((sigma - sigma_next) * (sigma + sigma_next))
            assert noise is not None  # `sample` asks for it
            x_next = x_next + fresh * noise.next().to(x.dtype)
        return Step(x=x_next, prediction=prediction)
