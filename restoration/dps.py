"""DPS: diffusion posterior sampling by the gradient of the residual through the network."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from common.random_streams import NoiseSequence
from degradations.base import Operator
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict, Sampler, Step
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Cost
from restoration.likelihood_weight import LikelihoodGuided
from restoration.posterior import PosteriorSampler, Problem

_OF_A_SCALE = Bias(
    "explains y, its noise included, with a spread that comes from the scale and not from the level of the noise",
    mean=2.0,
    deviation=(0.03, 1.7),
)


class DPS(PosteriorSampler):
    """x0 -> x0 + w sigma_t^2 J^T A^T r, r = y - A x0 and J = dx0/dx, in every estimate that the sampler's step is made
    of; w = |M r|^2 |r|^4 / (r.M r)^3, M = sigma^2 + A sigma_t^2 J^T A^T, which approximates M^-1 r by w r.

    The weight is derived in restoration/likelihood_weight.py: sigma is the noise's, so that the residual of a sample
    is that of the noise, and no constant is tuned. `scale` or `relative_scale` asks for the rule of Chung et al. 2022
    (2209.14687), algorithm 1, as in their code, which knows no noise: x' = step(x) - scale * grad_x |y - A x0(x)|, one
    norm per sample; x in variance preserving units, so that in ours, x = x0 + sigma_t * noise, the correction is scale
    sqrt(1 + sigma_t'^2) sqrt(1 + sigma_t^2) grad. Only A and its gradient are needed, so non-linear operators work.
    Known pixels are not pasted into the result.

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them, as in the paper.
        spacing: how the levels lie, see diffusion/levels.py: karras, trailing, leading or linspace; the default keeps
            both ends, as the paper's code does.
        scale: of every step, positive, as in the paper's code, and twice the paper's zeta'; null for relative_scale.
        relative_scale: positive, for scale = relative_scale * sqrt(m) / (steps * |A|), m measured values an image: the
            gradient of the norm has length |A| at most, whatever m is, so that an equal correction per pixel over the
            run needs this. 8 was the default before the weight followed the noise. null, and scale null: the weight
            above.
        clip: clip the prior's x0 to [-1, 1] before the residual is taken (no gradient flows through clipped pixels),
            and, without a scale, the corrected one again.
        sampler: whose step is corrected; ancestral DDPM where it is null, as in the paper.

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"gradient"})
    bias = Bias(
        "moves along A^T (y - A x0) alone, by one number for all values of y, where the posterior would weigh each",
        mean=0.3,
        deviation=(0.8, 1.1),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = None,
        spacing: str = "linspace",
        scale: float | None = None,
        relative_scale: float | None = None,
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if any(value is not None and not 0 < value < math.inf for value in (scale, relative_scale)):
            raise ValueError(f"scale and relative_scale must be positive and finite, got {scale} and {relative_scale}")
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.scale, self.relative_scale = scale, relative_scale
        self.follows_noise = scale is None and relative_scale is None
        if not self.follows_noise:
            self.bias = _OF_A_SCALE
        self.sampler = sampler or AncestralDDPM()
        self.sigmas = self.sampler.suited(self.sigmas)
        self.sampler.check_first_step(self.levels())

    def calls(self) -> Cost:
        """The gradient goes through every call; with a scale through the first one of each step, whatever the sampler
        calls afterwards.
        """
        steps = len(self.sigmas) - 1
        nfe = self.sampler.calls(steps)
        return Cost(nfe=nfe, backwards=nfe if self.follows_noise else steps)

    def begin(self, problem: Problem) -> "_Run":
        memory, none = self.sampler.start(self.levels()), problem.y.new_zeros(len(problem.y))
        if self.follows_noise:
            return _Run(norm=none, memory=memory, variance=problem.noise.variance(problem.y, problem.operator.mask))
        scale = step_scales(
            problem.operator,
            problem.y,
            len(self.sigmas) - 1,
            scale=self.scale,
            relative_scale=self.relative_scale,
        )
        return _Run(norm=none, memory=memory, scale=scale)

    def step(
        self,
        problem: Problem,
        prepared: "_Run",
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        operator, y = problem.operator, problem.y
        if prepared.variance is not None:
            guided = LikelihoodGuided(predict, operator=operator, y=y, variance=prepared.variance, clip=self.clip)
            outcome = self.sampler.step(guided, x, sigma, sigma_next, prepared.memory, noise)
            prepared.norm = guided.residual
        else:
            outcome, prepared.norm = guided_step(
                self.sampler,
                predict,
                x,
                sigma,
                sigma_next,
                prepared.memory,
                noise,
                operator=operator,
                y=y,
                scale=prepared.scale,
            )
        prepared.memory = outcome.memory
        return outcome.x, outcome.prediction.x0

    def observe(self, problem: Problem, prepared: "_Run", x0: Tensor) -> dict[str, Tensor]:
        """The residual that the step was corrected by."""
        return {"residual": prepared.norm.mean()}


@dataclass
class _Run:
    """norm: |y - A x0| of the last step, [B]; memory: of the sampler; variance: of the noise, like y, where the weight
    follows it; scale [B, 1, 1, 1] otherwise.
    """

    norm: Tensor
    memory: Any
    variance: Tensor | None = None
    scale: Tensor | float = 0.0


def guided_step(
    sampler: Sampler,
    predict: Predict,
    x: Tensor,
    sigma: float,
    sigma_next: float,
    memory: object,
    noise: NoiseSequence | None,
    *,
    operator: Operator,
    y: Tensor,
    scale: Tensor | float,
) -> tuple[Step, Tensor]:
    """A sampler's step and its correction by the gradient of |y - A x0(x)|; the step without gradient, and the norm [B]
    before it.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        outcome = sampler.step(predict, x, sigma, sigma_next, memory, noise)
        difference = (y - operator(outcome.prediction.x0)).flatten(1)
        # The square root of 0 has no gradient: a residual of exactly 0 asks for no correction.
        norm = (difference.square().sum(1) + 1e-24).sqrt()
        (gradient,) = torch.autograd.grad(norm.sum(), x)
    length = math.sqrt(1 + sigma_next**2) * math.sqrt(1 + sigma**2)
    moved = outcome.x.detach() - length * scale * gradient
    prediction = replace(outcome.prediction, x0=outcome.prediction.x0.detach(), eps=outcome.prediction.eps.detach())
    return Step(x=moved, prediction=prediction, memory=_detached(outcome.memory)), norm.detach()


def step_scales(
    operator: Operator, y: Tensor, steps: int, *, scale: float | None, relative_scale: float | None
) -> Tensor:
    """The factor of the gradient in each of `steps` steps, [B, 1, 1, 1], see :class:`DPS`."""
    if scale is not None:
        return torch.full((len(y), 1, 1, 1), scale, dtype=y.dtype, device=y.device)
    assert relative_scale is not None  # without either there is no norm rule
    if operator.mask is None:
        measured = torch.full((len(y),), float(y[0].numel()), device=y.device)
    else:
        measured = (operator.mask.flatten(1).sum(1) * y.shape[1]).expand(len(y))
    return (relative_scale / (steps * operator.norm()) * measured.to(y.dtype).sqrt()).view(-1, 1, 1, 1)


def _detached(memory: object) -> object:
    if isinstance(memory, Tensor):
        return memory.detach()
    return tuple(_detached(m) for m in memory) if isinstance(memory, tuple) else memory
