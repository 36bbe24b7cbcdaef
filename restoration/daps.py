"""DAPS: decoupled annealing posterior sampling, a new x0 drawn at every level and noised again from scratch."""

import math
from typing import Literal

from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.denoiser import Denoiser, Prediction
from diffusion.levels import karras_sigmas, within
from diffusion.samplers.base import Predict
from restoration.base import Bias, Cost
from restoration.likelihood_draw import draw_by_langevin, draw_exactly
from restoration.posterior import PosteriorSampler, Problem

#: How far the denoiser is asked for its derivative, in noise levels, and the least share of sigma^2 that is believed: a
#: trace of few pixels, by one probe, may come out at zero or below.
_PROBE, _LEAST_SHARE = 0.1, 1e-3
_OF_THE_DENOISER = Bias(
    "takes one number for the prior's uncertainty in every direction of an image", mean=0.3, deviation=(0.88, 1.15)
)


class DAPS(PosteriorSampler):
    """m = the end of the probability flow from x at sigma; x0 ~ exp(-|y - A x0|^2 / (2 tau^2) - |x0 - m|^2 / (2
    sigma^2)); x' = x0 + sigma' z.

    Zhang et al. 2024 (2407.01521), algorithm 1. x0 is drawn by Langevin steps there, for any A; here exactly, which
    takes a linear one, unless asked otherwise: see restoration/likelihood_draw.py. Their code leaves the 1/2 of the
    data term out, so that its tau is sqrt(2) times this one.

    sigma^2 is not what x says of x0: that is sigma^2 J, J the derivative of the denoiser. Where y says nothing, a draw
    with all of sigma^2 leaves x' with sigma^2 + sigma'^2 of noise, up to twice what the denoiser is told. `spread`
    "denoiser" takes sigma^2 tr(J) / N for each image instead, from one more call, (D(x + h z) - D(x)) z / (h N) with
    white z: right on average over the pixels. With flow_steps 1, where m is E[x0 | x], what y does not see of white
    Gaussian data is then drawn exactly; the end of the flow has all of the prior's spread already. This is ours, not
    the paper's.

    Args:
        prior: the denoiser.
        steps: number of levels, at least 1.
        spacing: karras alone, as in the paper.
        flow_steps: Euler steps of the probability flow from each level, at least 1.
        spread: variance of x0 about m: "level", sigma^2 as in the paper, or "denoiser", see above.
        inner: how x0 is drawn: "exact", for a linear A, or "langevin" as in the paper, for any A with a gradient.
        langevin_steps: of "langevin", at least 1.
        step_size: of "langevin", as a fraction of tau^2 / |A|^2, in (0, 1]; falls to a hundredth of that along the
            levels. No step is longer than half the variance of x0 about m, beyond which they diverge.
        least_sigma_255: tau where the measurement has less noise, in 0..255 units, positive; the paper takes 1.275.
        sigma_start: first level, at most the prior's.
        sigma_end: last level, at least the prior's.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"proximal", "white_noise"})
    bias = Bias(
        "takes sigma^2 for the prior's uncertainty at the level sigma, more than it is",
        mean=0.4,
        deviation=(0.9, 1.5),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int = 200,
        spacing: Literal["karras"] = "karras",
        flow_steps: int = 5,
        spread: Literal["level", "denoiser"] = "level",
        inner: Literal["exact", "langevin"] = "exact",
        langevin_steps: int = 100,
        step_size: float = 0.5,
        least_sigma_255: float = 1.275,
        sigma_start: float = 100.0,
        sigma_end: float = 0.1,
        clip: bool = True,
    ) -> None:
        if spacing != "karras":
            raise ValueError(f"spacing must be 'karras', got '{spacing}'")
        if inner not in ("exact", "langevin"):
            raise ValueError(f"inner must be 'exact' or 'langevin', got '{inner}'")
        if spread not in ("level", "denoiser"):
            raise ValueError(f"spread must be 'level' or 'denoiser', got '{spread}'")
        if min(steps, flow_steps, langevin_steps) < 1:
            given = (steps, flow_steps, langevin_steps)
            raise ValueError(f"steps, flow_steps and langevin_steps must be at least 1, got {given}")
        if not (0 < step_size <= 1 and 0 < least_sigma_255 < math.inf and 0 < sigma_end < sigma_start):
            raise ValueError(
                "step_size must lie in (0, 1], least_sigma_255 be positive and finite and sigma_end lie between 0 and"
                f" sigma_start, got {step_size}, {least_sigma_255}, {sigma_end} and {sigma_start}"
            )
        super().__init__(prior=prior, steps=1, spacing=spacing, clip=clip)
        first, last = within(prior, sigma_start, sigma_end)
        self.sigmas = karras_sigmas(steps, last, first)
        self.flow_steps, self.inner, self.langevin_steps, self.step_size = flow_steps, inner, langevin_steps, step_size
        self.spread, self.least = spread, least_sigma_255 / 127.5
        if spread == "denoiser" and flow_steps == 1:
            self.bias = _OF_THE_DENOISER
        if inner == "langevin":
            self.needs = frozenset({"gradient", "white_noise"})

    def calls(self) -> Cost:
        return Cost(nfe=(len(self.sigmas) - 1) * (self.flow_steps + (self.spread == "denoiser")))

    def step(
        self,
        problem: Problem,
        prepared: None,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        first = predict(x, sigma)
        about = self.deviation(predict, x, sigma, first.x0, noise)
        mean = self.flow(predict, x, sigma, first)
        tau = max(problem.sigma, self.least)
        place = self.sigmas.tolist().index(sigma)
        if self.inner == "exact":
            x0 = draw_exactly(problem, mean, about, tau, noise, stream=f"daps measurement {place}")
        else:
            size = self.step_size * (1 - 0.99 * place / max(len(self.sigmas) - 2, 1))
            x0 = draw_by_langevin(problem, mean, about, tau, noise, steps=self.langevin_steps, step_size=size)
        if sigma_next == 0:
            return x0, mean
        return x0 + sigma_next * noise.next().to(x0), mean

    def deviation(self, predict: Predict, x: Tensor, sigma: float, x0: Tensor, noise: NoiseSequence) -> Tensor:
        """Of x0 about its estimate, [B]: sigma, or sigma sqrt(tr(J) / N)."""
        if self.spread == "level":
            return x.new_full((len(x),), sigma)
        probe, length = noise.next().to(x), _PROBE * sigma
        moved = (predict(x + length * probe, sigma).x0 - x0) / length
        return sigma * (moved * probe).flatten(1).mean(1).clamp(_LEAST_SHARE, 1.0).sqrt()

    def flow(self, predict: Predict, x: Tensor, sigma: float, first: Prediction) -> Tensor:
        """The estimate of x0 at the end of the probability flow, by Euler steps on levels down to the prior's least;
        `first` is the prior's answer to x.
        """
        last = max(0.01, self.prior.sigma_min)
        if self.flow_steps == 1 or sigma <= last:
            levels = [sigma] * self.flow_steps
        else:
            levels = karras_sigmas(self.flow_steps, last, sigma).tolist()[:-1]
        prediction = first
        for following in levels[1:]:
            x = prediction.x0 + following * prediction.eps
            prediction = predict(x, following)
        return prediction.x0
