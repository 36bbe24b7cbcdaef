"""DPM-Solver++(2M): a multistep method of second order in lambda = -log sigma, one network call a step."""

import math
from typing import Any

from common.random_streams import NoiseSequence
from common.tensor_shapes import Images
from diffusion.samplers.base import Predict, Sampler, Step


class DPMSolverPP2M(Sampler):
    """x' = (sigma' / sigma) x + (1 - e^-h) D, D = (1 + 1/(2r)) x0 - 1/(2r) x0_previous, h = log(sigma / sigma'), r =
    h_previous / h.

    Order 2; the first step and the step to 0 are of first order (x' = x0 at 0). One call a step. Lu et al. 2022
    (2211.01095), algorithm 2. Wants levels whose h changes slowly, "karras" or "trailing": the last step of "linspace"
    and "leading" to t = 0 is many times longer than the one before, and extrapolates that far.
    """

    order = 2
    stochastic = False

    def step(
        self, predict: Predict, x: Images, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None
    ) -> Step:
        prediction = predict(x, sigma)
        if sigma_next == 0:
            return Step(x=prediction.x0, prediction=prediction)
        h = math.log(sigma / sigma_next)
        data = prediction.x0
        if memory is not None:
            previous, h_previous = memory
            ratio = h / (2 * h_previous)
            data = (1 + ratio) * data - ratio * previous
        x_next = (sigma_next / sigma) * x - math.expm1(-h) * data
        return Step(x=x_next, prediction=prediction, memory=(prediction.x0, h))
