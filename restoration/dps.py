"""DPS: diffusion posterior sampling by the gradient of the residual through the network."""

import math
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from common.random_streams import NoiseSequence, RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import Predict, Sampler, Step, predictor
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Cost, Method, OnStep, Restoration, repeat_samples


class DPS(Method):
    """x' = step(x) - scale * grad_x |y - A x0(x)|, x0 the prior's estimate at the present level, one norm per sample; x
    in variance preserving units.

    In our units x = x0 + sigma * noise the variance preserving x is x / sqrt(1 + sigma^2), so that the correction
    becomes scale sqrt(1 + sigma'^2) sqrt(1 + sigma^2) grad. Chung et al. 2022 (2209.14687), algorithm 1, as in their
    code: the gradient of the norm, not of its square; scale is twice the paper's zeta'. Only forward A is needed, so
    non-linear operators work. Known pixels are not pasted into the result.

    Args:
        prior: the denoiser.
        steps: levels, see diffusion/levels.py; null for all training times.
        spacing: levels, see diffusion/levels.py; null for all training times.
        scale: of every step; null for relative_scale * sqrt(m) / (steps * |A|), m measured values an image: the
            gradient of the norm has length |A| at most, whatever m is, so that an equal correction per pixel over the
            run needs this; 8 was the best compromise of 3, 6, 10 over five operators on MNIST's validation images.
        clip: clip x0 to [-1, 1] before the residual is taken (no gradient flows through clipped pixels).
        sampler: ancestral DDPM where it is null.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = None,
        spacing: str = "linspace",
        scale: float | None = None,
        relative_scale: float = 8.0,
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if (scale is not None and scale <= 0) or relative_scale <= 0:
            raise ValueError(f"scale and relative_scale must be positive, got {scale} and {relative_scale}")
        self.prior, self.scale, self.relative_scale, self.clip = prior, scale, relative_scale, clip
        self.sampler = sampler or AncestralDDPM()
        self.sigmas = spaced_sigmas(prior, prior.num_timesteps if steps is None else steps, spacing)

    def calls(self) -> Cost:
        nfe = self.sampler.calls(len(self.sigmas) - 1)
        return Cost(nfe=nfe, backwards=nfe)

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        operator = measurement.operator.repeat(num_samples)
        y = measurement.y.repeat_interleave(num_samples, 0)
        index, sample = repeat_samples(measurement, num_samples)
        shape, steps = tuple(operator.input_shape), len(self.sigmas) - 1
        scale = step_scales(operator, y, steps, scale=self.scale, relative_scale=self.relative_scale)
        predict = predictor(self.prior, clip=self.clip)
        residuals, memory = [], self.sampler.start(self.sigmas.tolist())
        x = float(self.sigmas[0]) * random.normal_batch("dps start", index, sample, shape, y.device).to(y.dtype)
        with random.sequence("dps", index, sample, shape, y.device) as noise:
            for i, (sigma, sigma_next) in enumerate(pairwise(self.sigmas.tolist())):
                outcome, norm = guided_step(
                    self.sampler, predict, x, sigma, sigma_next, memory, noise, operator=operator, y=y, scale=scale
                )
                x, memory = outcome.x, outcome.memory
                residuals.append(float(norm.mean()))
                if on_step is not None:
                    on_step(i, steps, outcome.prediction.x0)
        return Restoration(samples=x.unflatten(0, (-1, num_samples)), cost=self.calls(), trace={"residual": residuals})


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
    scale: Tensor,
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


def step_scales(operator: Operator, y: Tensor, steps: int, *, scale: float | None, relative_scale: float) -> Tensor:
    """The factor of the gradient in each of `steps` steps, [B, 1, 1, 1], see :class:`DPS`."""
    if scale is not None:
        return torch.full((len(y), 1, 1, 1), scale, dtype=y.dtype, device=y.device)
    if operator.mask is None:
        measured = torch.full((len(y),), float(y[0].numel()), device=y.device)
    else:
        measured = (operator.mask.flatten(1).sum(1) * y.shape[1]).expand(len(y))
    return (relative_scale / (steps * operator.norm()) * measured.to(y.dtype).sqrt()).view(-1, 1, 1, 1)


def _detached(memory: object) -> object:
    if isinstance(memory, Tensor):
        return memory.detach()
    return tuple(_detached(m) for m in memory) if isinstance(memory, tuple) else memory
