"""Ours: fits noisier copies of the measurement first, sees there how much known noise is memorised, and fits the
measurement itself for as long as is right.
"""

import itertools

import torch
from torch import Tensor

from common.image_range import to_uint8
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.schedules import Linear, Schedule
from metrics.distortion import ssim
from restoration.stopping.base import StoppingCriterion, Watch
from restoration.stopping.injected_noise import InjectedNoise, NoisyCopiesWatch, stacked
from restoration.stopping.noise_level import check_level, check_sigma, known_sigma, known_variance
from restoration.stopping.staged import StageOptions

_SSIM_EVERY = 25  # iterations


class MultiNoiseEarlyStopping(StoppingCriterion):
    """Stage k fits y + s_k eps_k, s_1 > ... > s_K, until its unbiased risk R_k = r_k + 2 (sigma^2 + s_k^2) d_k -
    (sigma^2 + s_k^2) is least; then y itself.

    r_k: residual to the noisy target; d_k = mean((A f - y) eps_k) / s_k: the share of the known noise that is
    memorised. Where the noise's own law has another sigma for every value (shot noise, speckle), sigma^2 d_k is the
    mean of their products. The targets are those of a diffusion process in variance exploding form (y_t /
    sqrt(abar_t) with s = sqrt((1 - abar_t) / abar_t)), frozen per stage. The second pass fits y from the first
    weights for kappa times the best iteration of the last stage, so that the added noise costs nothing but time.
    Derivation, assumptions and limits: docs/theory/stopping.md; nearest prior art Zhou et al. 2019 (1911.07185).

    Monitored: residual, leak, risk, psnr_to_target, ssim_to_target (of 8-bit pictures, every 25 iterations), stage;
    in the second pass the risk is the least of the last stage, smoothed: what is left of the error of y is a little
    less.

    Args:
        levels: s_k as multiples of sigma, largest first; null for half of sigma alone.
        times: instead of levels, training times of `schedule` (null: Linear), largest first, whose sigmas are the s_k
            in [-1, 1] units.
        schedule: whose levels `times` name, a diffusion schedule; null: Linear.
        sigma_255: of the noise; null for the measurement's, estimated where that is 0.
        patience: of each stage, in iterations.
        smooth: iterations that the risk is averaged over.
        carry: a stage goes on from the weights of the one before it; 2 sigma^2 times what is left of the earlier
            stages' noise then is part of the risk.
        second_pass: at last fit y itself from the first weights (true, default), or answer with the last stage.
        kappa: iterations of the second pass over those of the best of the last stage, in 0.5 .. 3 (default 1.05); null:
            from the stages' best iterations, by a line in log(sigma^2 + s^2).
        leak_limit: a stage ends, too, when d passes it.
        residual_limit: or when r falls below so many times sigma^2 + s^2; null for never.
        average: judge and answer with the averaged iterate.

    Raises:
        ValueError: options that contradict each other or are out of range; Unsupported where sigma is unknown and y is
            no picture to estimate it from.
    """

    def __init__(
        self,
        *,
        levels: list[float] | None = None,
        times: list[int] | None = None,
        schedule: Schedule | None = None,
        sigma_255: float | None = None,
        patience: int = 200,
        smooth: int = 50,
        carry: bool = False,
        second_pass: bool = True,
        kappa: float | None = 1.05,
        leak_limit: float | None = None,
        residual_limit: float | None = None,
        average: bool = True,
    ) -> None:
        if (times is None and schedule is not None) or (times is not None and levels is not None):
            raise ValueError(
                "give either levels, as multiples of sigma, or times, with the schedule that they belong to"
            )
        self.levels, self.sigmas = list(levels or [0.5]), None
        if times is not None:
            table = (schedule or Linear()).sigmas
            if not times or min(times) < 0 or max(times) >= len(table):
                raise ValueError(f"times must lie in 0 .. {len(table) - 1}, got {times}")
            self.sigmas = [float(table[t]) for t in times]
        falling = self.levels if self.sigmas is None else self.sigmas
        if min(falling) <= 0 or any(a <= b for a, b in itertools.pairwise(falling)):
            raise ValueError(
                "levels must be positive, and they and times must fall from the largest to the smallest, got"
                f" {levels or times}"
            )
        check_level(sigma_255)
        for name, limit in (("leak_limit", leak_limit), ("residual_limit", residual_limit)):
            if limit is not None and not 0 < limit < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {limit}")
        self.sigma_255, self.leak_limit, self.residual_limit = sigma_255, leak_limit, residual_limit
        self.stages = StageOptions(
            patience=patience, smooth=smooth, carry=carry, second_pass=second_pass, kappa=kappa, average=average
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        check_sigma(operator, noise, self.sigma_255)

    def check_iterations(self, iterations: int) -> None:
        ends_early = self.leak_limit is not None or self.residual_limit is not None
        self.stages.check_levels(len(self.sigmas or self.levels), iterations, ends_early=ends_early)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        sigma, variance = known_sigma(measurement, self.sigma_255), known_variance(measurement, self.sigma_255)
        levels = (
            [m * sigma for m in self.levels]
            if self.sigmas is None
            else [torch.full_like(sigma, s) for s in self.sigmas]
        )
        noises = [
            InjectedNoise.drawn(measurement, random, f"injected_{k}", level, variance) for k, level in enumerate(levels)
        ]
        return _Watch(measurement, noises, self, iterations)


class _Watch(NoisyCopiesWatch):
    signal = "risk"

    def __init__(
        self, measurement: Measurement, noises: list[InjectedNoise], criterion: MultiNoiseEarlyStopping, iterations: int
    ) -> None:
        self._leak_limit, self._residual_limit = criterion.leak_limit, criterion.residual_limit
        self.told = ("the estimated risk", "a noisier copy" if len(noises) == 1 else "noisier copies")
        super().__init__(measurement, noises, criterion.stages, iterations)
        count, device = len(measurement.y), measurement.y.device
        self.ssim = torch.full((count,), torch.nan, dtype=torch.float64, device=device)
        self.looks = 0

    def judge(self, f: Tensor) -> dict[str, Tensor]:
        measured = self.measurement.operator(f)
        found = stacked([n.judge(measured) for n in self._noises])
        # In the second pass nothing of the known noise is in the target: the residual is that of y, and the leak, of
        # the last stage's noise, is about 0.
        own = self._noises[0].mean((measured - self.measurement.y).square()) / 4
        residual = self.of_stage([*found["residual"], own])
        risks = found["risk"]
        if self._options.carry:
            # What is left of the targets before holds n as well: E mean((A f - A x) n) = sigma^2 (d_1 + ... + d_k).
            before = [
                torch.stack(found["memorised"][:k]).sum(0) if k else torch.zeros_like(risks[0])
                for k in range(self.count)
            ]
            risks = [risk + 2 * memorised for risk, memorised in zip(risks, before, strict=True)]
        leak, risk = (self.of_stage([*column, column[-1]]) for column in (found["leak"], risks))
        if self.looks % _SSIM_EVERY == 0 and measured.shape[1] in (1, 3) and measured.ndim == 4:
            self.ssim = ssim(to_uint8(measured), to_uint8(self.y))
        self.looks += 1
        psnr = -10 * residual.clamp(min=1e-10).log10()
        return {
            "residual": residual,
            "leak": leak,
            "risk": risk,
            "psnr_to_target": psnr,
            "ssim_to_target": self.ssim,
            "stage": self.stage.double(),
        }

    def ends(self, values: dict[str, Tensor]) -> Tensor | None:
        ended = None
        if self._leak_limit is not None:
            ended = values["leak"] > self._leak_limit
        if self._residual_limit is not None:
            variance = self.of_stage([*(n.variance for n in self._noises), self._own.variance])
            low = values["residual"] < self._residual_limit * variance
            ended = low if ended is None else ended | low
        return ended
