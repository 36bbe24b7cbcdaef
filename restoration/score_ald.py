"""Score-based annealed Langevin dynamics, with the gradient of the likelihood taken at the noisy image itself."""

import math
from typing import Literal

import torch
from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.denoiser import Denoiser
from diffusion.levels import within
from diffusion.samplers.base import Predict
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Cost
from restoration.data_gradient import data_gradient
from restoration.posterior import PosteriorSampler, Problem


class ScoreALD(PosteriorSampler):
    """rule "langevin": at each level, repeats times, x <- x + h (A^T (y - A x) / (gamma^2 + sigma_y^2) - eps / sigma) +
    sqrt(2 h) z, h = step_size sigma^2. rule "ancestral": an ancestral step, then x - A^T (A x - y) / (gamma^2 +
    sigma_y^2), x of before the step, in variance preserving units.

    "langevin": Jalal et al. 2021 (2108.01368), levels that fall geometrically; the released code has no gamma and
    rescales the gradient. "ancestral" is the form in which it is compared with DPS and SDEdit where a DDPM is at hand.
    The residual at x holds the noise of the level too, which gamma stands for.

    Args:
        prior: the denoiser.
        steps: number of levels; 500 where it is null, or all of the prior's for "ancestral".
        spacing: of "ancestral", see diffusion/levels.py.
        rule: "langevin" or "ancestral".
        gamma: one number, or what it is at the first and the last level, linear between, at least 0; null for sigma
            ("langevin"), or 15 to 10 ("ancestral").
        step_size: h over sigma^2, of "langevin", positive.
        repeats: Langevin steps at each level, at least 1.
        sigma_start: first level of "langevin", at most the prior's.
        sigma_end: its last level, at least the prior's.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    # A residual of an image with noise of 50 means nothing to an operator that is not linear.
    needs = frozenset({"linear", "white_noise"})
    reasons = {"likelihood": "gamma above 0 at both ends, or noise to divide by"}
    bias = Bias(
        "asks the noisy image in place of the clean one, so that the measured part pulls the rest too little",
        mean=0.7,
        deviation=(0.9, 1.9),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = None,
        spacing: str = "trailing",
        rule: Literal["langevin", "ancestral"] = "langevin",
        gamma: float | tuple[float, float] | None = None,
        step_size: float = 0.05,
        repeats: int = 3,
        sigma_start: float = 50.0,
        sigma_end: float = 0.01,
        clip: bool = True,
    ) -> None:
        if rule not in ("langevin", "ancestral"):
            raise ValueError(f"rule must be 'langevin' or 'ancestral', got '{rule}'")
        if not (0 < step_size <= 1 and repeats >= 1 and (steps is None or steps >= 1) and 0 < sigma_end < sigma_start):
            raise ValueError(
                "step_size must lie in (0, 1], repeats and steps be at least 1 and sigma_end lie between 0 and"
                f" sigma_start, got {step_size}, {repeats}, {steps}, {sigma_end} and {sigma_start}"
            )
        gamma = (15.0, 10.0) if gamma is None and rule == "ancestral" else gamma
        ends = gamma if isinstance(gamma, (tuple, list)) else (gamma, gamma)
        if gamma is not None and not (len(ends) == 2 and all(g is not None and 0 <= g < math.inf for g in ends)):
            raise ValueError(f"gamma must be one number or two, at least 0 and finite, got {gamma}")
        super().__init__(prior=prior, steps=steps if rule == "ancestral" else 1, spacing=spacing, clip=clip)
        self.rule, self.step_size, self.repeats = rule, step_size, repeats
        if rule == "langevin":
            first, last = within(prior, sigma_start, sigma_end)
            ramp = torch.linspace(math.log(first), math.log(last), steps or 500, dtype=torch.float64).exp()
            self.sigmas = torch.cat([ramp, ramp.new_zeros(1)])
        self.ends = None if ends[0] is None else (float(ends[0]), float(ends[1] or 0))
        if self.ends is not None and min(self.ends) == 0:
            self.needs = self.needs | {"likelihood"}

    def calls(self) -> Cost:
        return Cost(nfe=(len(self.sigmas) - 1) * (self.repeats if self.rule == "langevin" else 1))

    def begin(self, problem: Problem) -> dict[float, float]:
        """gamma at every level."""
        sigmas = self.sigmas[:-1].tolist()
        if self.ends is None:
            return {sigma: sigma for sigma in sigmas}
        first, last = self.ends
        return {s: first + (last - first) * i / max(len(sigmas) - 1, 1) for i, s in enumerate(sigmas)}

    def step(
        self,
        problem: Problem,
        prepared: dict[float, float],
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        variance = prepared[sigma] ** 2 + problem.sigma**2
        if self.rule == "ancestral":
            outcome = AncestralDDPM().step(predict, x, sigma, sigma_next, None, noise)
            pull = data_gradient(problem.operator, x / math.sqrt(1 + sigma**2), problem.y) / variance
            return outcome.x - math.sqrt(1 + sigma_next**2) * pull, outcome.prediction.x0
        h, x0 = self.step_size * sigma**2, x
        for _ in range(self.repeats):
            prediction = predict(x, sigma)
            drift = prediction.eps / sigma + data_gradient(problem.operator, x, problem.y) / variance
            x, x0 = x - h * drift + math.sqrt(2 * h) * noise.next().to(x), prediction.x0
        return x, x0
