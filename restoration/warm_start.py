"""A truncated reverse chain that begins at another method's restoration, or at the measurement itself."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from common.image_range import sigma_to_255
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Condition, Denoiser
from diffusion.levels import down_from, time_at
from diffusion.samplers.base import Sampler, predictor
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Cost, Method, OnStep, Restoration, Unsupported
from restoration.consistency import agreeing, check_projection, projection
from restoration.dps import guided_step, step_scales
from restoration.likelihood_weight import LikelihoodGuided
from restoration.remaining_error import check_remaining_error, remaining_error

SAME = 1e-3  # levels that differ by less, relatively, are one


class WarmStart(Method):
    """x = g + sigma_0 z with g = first(y), then the sampler's steps from sigma_0 to 0: the chain is short because most
    of the image is there already.

    The error of g is structured, not white, and has to drown in the fresh noise: sigma_0 = factor * its root mean
    square, where no start is given. Without a data consistency step the chain forgets y as it forgets the errors.
    SDEdit (Meng et al. 2021, 2108.01073) with another guide; Chung et al. 2022 (2112.05146) for inverse problems.

    first null: x = y without fresh noise, which is a legal x_t at sigma_t = sigma of the noise where A is the
    identity (a stochastic sampler then draws from p(x | y)); with steps 1 the answer is D(y; sigma). A start above
    that level adds what is missing.

    The cost counts the prior's calls and those of `first`; the iterations of an untrained network are no calls, but
    their seconds count.

    Args:
        prior: the denoiser; one that was trained with a guide as a second input (diffusion/image_conditioning.py) gets
            g in every step.
        first: the method that makes the guide, one for all samples of an image.
        start_255: sigma_0 in 0..255 units, null: factor times the remaining error of g in the same units,
            remaining_255, and where that is null too, what `first` itself says of it (restoration/remaining_error.py),
            for every image its own; at most the prior's largest level.
        remaining_255: root mean square of the error that is left in g, in grey levels of 255; null: what `first` itself
            says of it (restoration/remaining_error.py).
        factor: sigma_0 over that error, positive (default 3: structured errors drown only well below the noise).
        steps: of the chain, at training times that are even from that of sigma_0 down.
        consistency: "none"; "projection", see restoration/consistency.py; "gradient", DPS's step.
        relative_scale: of the gradient step, see restoration/dps.py; it is for a chain from pure noise and counts as
            far as this one goes. null: the step follows the noise, see restoration/likelihood_weight.py.
        clip: clip every x0 to [-1, 1].
        sampler: null (default): ancestral DDPM.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    prior: Denoiser
    gives_image = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        first: Method | None = None,
        start_255: float | None = None,
        remaining_255: float | None = None,
        factor: float = 3.0,
        steps: int = 20,
        consistency: Literal["none", "projection", "gradient"] = "none",
        relative_scale: float | None = None,
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if consistency not in ("none", "projection", "gradient"):
            raise ValueError(f"consistency must be none, projection or gradient, got '{consistency}'")
        if steps < 1 or not factor > 0 or (relative_scale is not None and not relative_scale > 0):
            raise ValueError(
                f"steps must be at least 1, factor and relative_scale positive, got {steps}, {factor}, {relative_scale}"
            )
        for name, value in (("start_255", start_255), ("remaining_255", remaining_255)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if start_255 is not None and remaining_255 is not None:
            raise ValueError("give start_255 or remaining_255, not both")
        if first is None and remaining_255 is not None:
            raise ValueError(
                "remaining_255 is the error of `first`, and there is none: give start_255, or neither to start at the"
                " measurement's own level"
            )
        if start_255 is not None and not prior.sigma_min <= start_255 / 127.5 <= prior.sigma_max:
            low, high = sigma_to_255(prior.sigma_min), sigma_to_255(prior.sigma_max)
            raise ValueError(
                f"start_255 must be a level that the prior knows, {low:.3g} .. {high:.4g}, got {start_255}"
            )
        self.prior, self.first, self.factor, self.steps = prior, first, factor, steps
        self.start = None if start_255 is None else start_255 / 127.5
        self.remaining = None if remaining_255 is None else remaining_255 / 127.5
        self.consistency, self.relative_scale, self.clip = consistency, relative_scale, clip
        self.sampler = sampler or AncestralDDPM()
        self.sampler.check(prior)
        if self.start is not None:
            self._levels(self.start)
        self.uses_truth = first is not None and first.uses_truth
        # From the measurement itself the chain draws from the posterior; from another picture it does not.
        self.bias = Bias() if first is None and consistency == "none" else None
        self.deterministic = first is None and start_255 is None and (steps == 1 or not self.sampler.stochastic)

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if self.first is not None:
            self.first.check(operator, noise)
            if self.start is None and self.remaining is None:
                check_remaining_error(self.first, operator)
        else:
            self._check_measurement(operator, noise)
        if self.consistency == "projection":
            check_projection(operator, noise)

    def calls(self) -> Cost:
        return self._cost(self.steps) if self.first is None else _sum(self._cost(self.steps), self.first.calls())

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        num_samples = 1 if self.deterministic else num_samples
        share = 0.9 if self.first is not None and not self.first.calls().nfe else 0.5 if self.first is not None else 0.0
        report = _part_of(on_step, 0.0, share, lambda estimate: estimate.repeat_interleave(num_samples, 0))
        guide, cost, trace, notes, levels = self._guide(measurement, random, report)
        chains = measurement.repeat(num_samples)
        index, sample = chains.index, [r % num_samples for r in range(len(chains.y))]
        guide = guide.repeat_interleave(num_samples, 0)
        x = guide
        levels = [level for level in levels for _ in range(num_samples)]
        fresh = [
            level if self.first is not None else math.sqrt(max(0.0, level**2 - measurement.sigma**2))
            for level in levels
        ]
        if max(fresh) > 0:
            z = random.normal_batch("warm start", index, sample, x.shape[1:], x.device).to(x.dtype)
            x = x + x.new_tensor(fresh).view(-1, 1, 1, 1) * z
        answer, most = guide.clone(), 0  # the guide, until a chain has something better
        groups = _groups(levels)
        for done, rows in enumerate(groups):

            def seen(estimate: Tensor, rows: list[int] = rows) -> Tensor:
                answer[rows] = estimate
                return answer

            begin, end = (share + (1 - share) * (done + k) / len(groups) for k in (0, 1))
            report = _part_of(on_step, begin, end, seen)
            part = chains.pick(rows)
            condition = Condition(image=guide[rows]) if self.prior.takes_image else None
            with random.sequence(
                "warm start steps", [index[r] for r in rows], [sample[r] for r in rows], x.shape[1:], x.device
            ) as noise:
                answer[rows], steps = self._chain(x[rows], levels[rows[0]], part, condition, noise, report)
            most = max(most, steps)
        trace = {**{f"first/{name}": values for name, values in trace.items()}, "start_sigma": levels}
        return Restoration(
            samples=answer.unflatten(0, (-1, num_samples)), cost=_sum(self._cost(most), cost), trace=trace, notes=notes
        )

    def _cost(self, steps: int) -> Cost:
        """Of a chain of so many steps; a gradient goes through every call, or, with a scale, the first of each step."""
        nfe = self.sampler.calls(steps)
        backwards = 0 if self.consistency != "gradient" else nfe if self.relative_scale is None else steps
        return Cost(nfe=nfe, backwards=backwards)

    def _check_measurement(self, operator: Operator, noise: Noise) -> None:
        if not isinstance(operator, IdentityOperator):
            description = operator.description or type(operator).__name__
            raise Unsupported(
                "a chain starts at the measurement itself only where that is the image plus noise, and here is"
                f" {description}: give a `first`"
            )
        if not noise.sigma > 0:
            raise Unsupported(
                "a chain starts at the measurement's own level of noise, and this one has none: give a `first`"
            )
        if self.start is not None and self.start < noise.sigma * (1 - SAME):
            raise Unsupported(
                f"start_255={sigma_to_255(self.start):.4g} lies below the noise of the measurement,"
                f" {sigma_to_255(noise.sigma):.4g}: noise cannot be taken out before the chain; give a larger"
                " start_255, or none"
            )
        if not self.prior.sigma_min <= noise.sigma <= self.prior.sigma_max:
            raise Unsupported(
                f"the noise of the measurement, sigma {noise.sigma:.4g}, is no level that the prior knows"
            )
        if self.start is None:
            self._checked(noise.sigma)

    def _levels(self, start: float) -> list[float]:
        """Of a chain from `start`; ValueError where its first step is not what the sampler promises."""
        levels = down_from(self.prior, start, self.steps).tolist()
        self.sampler.check_first_step(levels)
        return levels

    def _checked(self, *starts: float) -> None:
        """Levels that the measurement decides, before any chain is walked."""
        try:
            for start in set(starts):
                self._levels(start)
        except ValueError as error:
            raise Unsupported(f"a chain from sigma {start:.4g} does not suit the sampler: {error}") from error

    def _guide(
        self, measurement: Measurement, random: RandomStreams, on_step: OnStep | None
    ) -> tuple[Tensor, Cost, dict[str, list[float]], tuple[str, ...], list[float]]:
        """The guide [B, C, H, W], what it cost, the trace and notes of `first`, and the level that the chain of each
        image starts at.
        """
        if self.first is None:
            return measurement.y, Cost(), {}, (), [self.start or measurement.sigma] * len(measurement.y)
        given = measurement if self.first.uses_truth else measurement.without_truth()
        found = self.first.restore(given, num_samples=1, random=random, on_step=on_step)
        guide = found.samples[:, 0]
        if self.start is not None:
            levels = [self.start] * len(guide)
        else:
            errors = (
                [self.remaining] * len(guide) if self.remaining is not None else remaining_error(found, measurement)
            )
            levels = [min(max(self.factor * e, self.prior.sigma_min), self.prior.sigma_max) for e in errors]
            self._checked(*levels)
        return guide, found.cost, found.trace, found.notes, levels

    def _chain(
        self,
        x: Tensor,
        start: float,
        measurement: Measurement,
        condition: Condition | None,
        noise,
        on_step: OnStep | None,
    ) -> tuple[Tensor, int]:
        """The end of the chain of these rows, and its steps."""
        operator, y = measurement.operator, measurement.y
        levels = self._levels(start)
        predict = predictor(self.prior, condition=condition, clip=self.clip)
        if self.consistency == "projection":
            predict = agreeing(predict, projection(operator, y, measurement.sigma))
        scale, relative = None, self.relative_scale
        if self.consistency == "gradient" and relative is None:
            variance = measurement.noise.variance(y, operator.mask)
            predict = LikelihoodGuided(predict, operator=operator, y=y, variance=variance, clip=self.clip)
        elif self.consistency == "gradient" and relative is not None:
            # What a chain from pure noise does per training time: a short chain begins near y, and so many steps of its
            # size would throw it off.
            share = (time_at(self.prior, start) + 1) / self.prior.num_timesteps
            scale = step_scales(operator, y, len(levels) - 1, scale=None, relative_scale=relative * share)
        memory = self.sampler.start(levels)
        for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
            if scale is not None:
                outcome, _ = guided_step(
                    self.sampler, predict, x, sigma, sigma_next, memory, noise, operator=operator, y=y, scale=scale
                )
            else:
                outcome = self.sampler.step(predict, x, sigma, sigma_next, memory, noise)
            x, memory = outcome.x, outcome.memory
            if on_step is not None:
                on_step(i, len(levels) - 1, outcome.prediction.x0)
        return x, len(levels) - 1


def _groups(levels: list[float]) -> list[list[int]]:
    """The rows by level: those that are the same walk down together."""
    found: dict[float, list[int]] = {}
    for row, level in enumerate(levels):
        found.setdefault(level, []).append(row)
    return list(found.values())


def _sum(a: Cost, b: Cost) -> Cost:
    return Cost(nfe=a.nfe + b.nfe, backwards=a.backwards + b.backwards)


def _part_of(on_step: OnStep | None, begin: float, end: float, whole: Callable[[Tensor], Tensor]) -> OnStep | None:
    """Reports of a part of the work as reports of the whole, in thousandths; whole(estimate): of all chains."""
    if on_step is None:
        return None

    def report(step: int, steps: int, estimate: Tensor) -> None:
        share = begin + (end - begin) * (step + 1) / max(1, steps)
        on_step(max(0, round(1000 * share) - 1), 1000, whole(estimate))

    return report
