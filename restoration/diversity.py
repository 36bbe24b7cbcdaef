"""Meaningful diversity: samples of one image that push each other apart while they are drawn, around any sampler."""

import math
import warnings
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from common.build import build
from common.image_range import sigma_from
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Denoiser, Prediction
from diffusion.levels import time_at
from diffusion.samplers.base import Predict
from restoration.base import Cost, Method, OnStep, Restoration
from restoration.posterior import PosteriorSampler, Problem


class Diversity(Method):
    """x0_i -> x0_i + strength (t' / T) [d_i <= clamp] P (x0_i - x0_nn), nn = the sample of the same image that is
    nearest to i, d_i = its distance, t' of T the training time of the level that a step goes to, so that the last one
    is left alone. The inner sampler goes on from there.

    One step of gradient ascent on half the squared distance to the nearest of the N samples that are drawn together.
    The result stands for what is possible, not for what is likely: it is no draw from the posterior and is not meant to
    be. Cohen et al. 2024 (2310.16047, ICLR), section 4, as their code has it, but for three things. P projects onto
    what y leaves open, where they move the whole image with DPS and RePaint and the null space with DDRM. Distances
    are root mean squares over unknown pixels, where they divide a norm by a count, so that a clamp holds at other
    sizes. eps follows x0, where they leave it with DDNM.

    Args:
        prior: the denoiser.
        inner: {class_path, init_args} of the posterior sampler without its prior, or its class path alone.
        strength: eta of the paper, at least 0, which is the inner sampler itself. The released code's own default is 0,
            and it says nothing of the values of the paper; 0.3 costs the mean of five digits about 0.3 dB of PSNR
            (docs/results/diversity.md).
        clamp_255: samples further from their nearest than this are left alone: root mean square over unknown pixels, in
            0..255 units, positive; null: none are, the released code's default.
        where: which part of an image is pushed: what is "unknown", the missing pixels of a mask or the null space of A
            where it has a singular value decomposition; or the whole "image", which it is for all other operators.

    Raises:
        ValueError: options out of range; an inner method that is no posterior sampler.
    """

    needs_prior = True
    prior: Denoiser
    couples_samples = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        inner: dict | str = "restoration.dps.DPS",
        strength: float = 0.3,
        clamp_255: float | None = None,
        where: Literal["unknown", "image"] = "unknown",
    ) -> None:
        if not 0 <= strength < math.inf:
            raise ValueError(
                f"strength must be at least 0 and finite, got {strength}: a negative one would pull samples together"
            )
        if clamp_255 is not None and not 0 < clamp_255 < math.inf:
            raise ValueError(f"clamp_255 must be positive and finite, or null for none, got {clamp_255}")
        if where not in ("unknown", "image"):
            raise ValueError(f"where must be 'unknown' or 'image', got '{where}'")
        self.prior, self.strength, self.where = prior, strength, where
        self.clamp = None if clamp_255 is None else sigma_from(sigma_255=clamp_255)
        self.inner = build(inner, PosteriorSampler, where="inner", prior=prior)

    def check(self, operator: Operator, noise: Noise) -> None:
        self.inner.check(operator, noise)

    def calls(self) -> Cost:
        return self.inner.calls()

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        if num_samples == 1 and self.strength > 0:
            warnings.warn(
                "diversity does nothing to one sample, which has no other to keep away from: ask for num_samples of 2"
                " or more",
                stacklevel=2,
            )
        apart = self.around if num_samples > 1 and self.strength > 0 else None
        return self.inner.restore(measurement, num_samples=num_samples, random=random, on_step=on_step, around=apart)

    def around(self, problem: Problem, predict: Predict, sigma: float, sigma_next: float) -> Predict:
        """The prior as a step from sigma to sigma_next sees it: itself in the last one."""
        del sigma
        if sigma_next == 0:
            return predict
        share = self.strength * time_at(self.prior, sigma_next) / self.prior.num_timesteps

        def pushed(x: Tensor, sigma: float) -> Prediction:
            found = predict(x, sigma)
            x0 = found.x0 + share * self.push(problem, found.x0)
            if self.inner.clip:
                x0 = x0.clamp(-1, 1)
            return replace(found, x0=x0, eps=(x - x0) / sigma)

        return pushed

    def push(self, problem: Problem, x0: Tensor) -> Tensor:
        """[d <= clamp] P (x0 - x0_nn) of all chains, [B N, C, H, W]; the gradient goes through both samples. Of and by
        a sample that has diverged nothing.
        """
        operator, masked = problem.operator, problem.operator.mask if problem.operator.keeps_pixels else None
        unknown = None if masked is None else (1 - masked).to(x0).expand_as(x0)
        nearest, distance = nearest_of_the_others(x0.detach(), problem.num_samples, unknown)
        near = distance.isfinite() if self.clamp is None else distance <= self.clamp
        difference = torch.where(near.view(-1, 1, 1, 1), x0 - x0[nearest], 0.0)
        if self.where == "image":
            return difference
        if unknown is not None:
            return difference * unknown
        if operator.svd is None:
            return difference
        return difference - operator.pseudo_inverse(operator(difference))


def nearest_of_the_others(x: Tensor, num_samples: int, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of each of N samples of an image the row of the nearest other one, int64 [B N], and its distance [B N], a root
    mean square.

    Args:
        x: [B N, C, H, W], image-major.
        num_samples: N, at least 2.
        weight: 1 for values that count, 0 for others, like x; null: all do. An image in which none counts has distances
            of 0. A sample that is not finite is infinitely far from all others, and so is one that has no finite one.
    """
    rows = x if weight is None else x * weight
    rows = rows.flatten(1).unflatten(0, (-1, num_samples))
    values = torch.full((len(x),), float(x[0].numel())).to(x) if weight is None else weight.flatten(1).sum(1)
    # Not by products, which lose the digits of samples that are close to each other.
    distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    own = torch.eye(num_samples, dtype=torch.bool, device=x.device)
    least, place = distance.masked_fill(own | distance.isnan(), math.inf).min(2)
    first = torch.arange(len(rows), device=x.device)[:, None] * num_samples
    return (place + first).flatten(), least.flatten() / values.clamp(min=1).sqrt()
