"""Heun's method for the probability flow in sigma, with optional churn: the sampler of EDM."""

import math
from collections.abc import Sequence
from typing import Any

from common.random_streams import NoiseSequence
from common.tensor_shapes import Images
from diffusion.samplers.base import Predict, Sampler, Step

#: Of the data that the first step is judged on, the square of EDM's sigma_data, and the error that is let pass.
_VARIANCE, _TOLERANCE = 0.25, 0.1


class Heun(Sampler):
    """x' = x + (sigma' - s) (d + d') / 2 with d = eps(x, s), d' = eps(x + (sigma' - s) d, sigma'); Euler on the step to
    0.

    s = sigma without churn. With churn c, a step at s_min <= sigma <= s_max of a list of S steps first raises the
    noise to s = (1 + min(c / S, sqrt(2) - 1)) sigma with noise of standard deviation s_noise. Order 2 down to the
    smallest sigma; two calls a step, one on the last. Karras et al. 2022 (2206.00364), algorithms 1 and 2.

    Where v / sigma'^2 is small, v the variance of the data, the corrected step is off by v s / (2 sigma'^3) of x, and
    Euler's by v / (2 sigma'^2): from the cosine schedule's last level, 20291, to one of about 11 that is more than all
    of x. So lists begin at 80 at most, as in EDM, and one whose first step is still too long is refused.

    Args:
        churn: 0 is deterministic; a first step that churn makes too long is refused too.
        s_min: lowest level in [-1, 1] units at which noise is added.
        s_max: highest level in [-1, 1] units at which noise is added.
        s_noise: about 1.

    Raises:
        ValueError: options out of range.
    """

    order = 2
    highest = 80.0

    def __init__(
        self, *, churn: float = 0.0, s_min: float = 0.0, s_max: float = math.inf, s_noise: float = 1.0
    ) -> None:
        if churn < 0 or s_noise <= 0 or not 0 <= s_min <= s_max:
            raise ValueError(
                f"churn must be at least 0, s_noise positive and s_min <= s_max, got {churn}, {s_noise}, {s_min},"
                f" {s_max}"
            )
        self.churn = churn
        self.s_min, self.s_max, self.s_noise = s_min, s_max, s_noise
        self.stochastic = churn > 0

    def calls(self, steps: int) -> int:
        return 2 * steps - 1

    def start(self, levels: Sequence[float]) -> float:
        """By how much a step raises its level: min(churn / S, sqrt(2) - 1)."""
        return min(self.churn / (len(levels) - 1), math.sqrt(2) - 1)

    def check_first_step(self, levels: Sequence[float]) -> None:
        """ValueError where the first step misses the flow of Gaussian data of standard deviation 0.5 by more than a
        tenth, and by more than Euler's step does.
        """
        sigma, sigma_next = levels[0], levels[1]
        if sigma_next == 0:
            return
        start = self.start(levels)
        raised = sigma * (1 + start) if start and self.s_min <= sigma <= self.s_max else sigma
        error, refused = _first_error(raised, sigma_next)
        if refused:
            less = ", less churn" if not _first_error(sigma, sigma_next)[1] else ""
            raise ValueError(
                f"the first step of Heun's method, from sigma = {sigma:.4g} to {sigma_next:.4g}, would miss by"
                f" {100 * error:.0f} %: take more steps{less}, the spacing 'karras' if it is another one, or a sampler"
                " that does not average slopes (DPMSolverPP2M, DDIM)"
            )

    def step(
        self, predict: Predict, x: Images, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None
    ) -> Step:
        if self.churn and memory is None:
            raise ValueError("churn is divided over the steps of the list: begin with memory=start(levels)")
        if memory and self.s_min <= sigma <= self.s_max:
            raised = (1 + memory) * sigma
            assert noise is not None  # `sample` asks for it
            x = x + self.s_noise * math.sqrt(raised**2 - sigma**2) * noise.next().to(x.dtype)
            sigma = raised
        prediction = predict(x, sigma)
        if sigma_next == 0:
            return Step(x=prediction.x0, prediction=prediction, memory=memory)
        euler = x + (sigma_next - sigma) * prediction.eps
        corrected = predict(euler, sigma_next)
        x_next = x + (sigma_next - sigma) / 2 * (prediction.eps + corrected.eps)
        return Step(x=x_next, prediction=prediction, memory=memory)


def _first_error(sigma: float, sigma_next: float) -> tuple[float, bool]:
    """By what share of x the step misses the flow of Gaussian data, and whether that is too much."""
    slope = sigma / (_VARIANCE + sigma**2)  # of x = 1; x at the next level is a share of it
    euler = 1 + (sigma_next - sigma) * slope
    heun = 1 + (sigma_next - sigma) / 2 * (slope + euler * sigma_next / (_VARIANCE + sigma_next**2))
    exact = math.sqrt((_VARIANCE + sigma_next**2) / (_VARIANCE + sigma**2))
    error = abs(heun / exact - 1)
    return error, error > _TOLERANCE and error > abs(euler / exact - 1)
