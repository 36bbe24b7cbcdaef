"""Criteria that fit something other than the measurement first: stages on targets of their own, and at last, if asked
for, the measurement itself.
"""

import warnings
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import UserError
from degradations.measurement import Measurement
from restoration.stopping.base import Patience, Verdict, Watch


@dataclass(frozen=True)
class Target:
    """What one stage fits.

    Args:
        y: like the measurement's.
        weight: broadcasts to y, 0 where a value is held out; None for all ones.
        variance: of its noise, [B].
    """

    y: Tensor
    weight: Tensor | None
    variance: Tensor


@dataclass(frozen=True)
class StageOptions:
    """How stages end.

    Args:
        patience: iterations without a lower signal.
        smooth: the signal is averaged over so many iterations, and its minimum taken in their middle.
        carry: a stage goes on from the weights of the one before, instead of beginning again.
        second_pass: at last fit the measurement itself from the first weights for j iterations.
        kappa: j over the best iteration of the last stage; null to extrapolate from the stages (two at least, without
            carry).
        average: judge and answer with the averaged iterate.

    Raises:
        ValueError: numbers out of range.
    """

    patience: int = 200
    smooth: int = 50
    carry: bool = False
    second_pass: bool = True
    kappa: float | None = 1.05
    average: bool = True

    def __post_init__(self) -> None:
        if self.patience < 1 or self.smooth < 1:
            raise ValueError(f"patience and smooth must be at least 1, got {self.patience} and {self.smooth}")
        if self.kappa is not None and not 0.5 <= self.kappa <= 3:
            raise ValueError(f"kappa must lie between 0.5 and 3, got {self.kappa}")

    def check_levels(self, levels: int, iterations: int, *, ends_early: bool = False) -> None:
        """Whether the last of several levels is reached within so many iterations of all fits, said before the first.

        A fit is judged after `smooth` iterations and ends `patience` after its best, or at once where a leaf
        `ends_early`; the second pass wants kappa times the best iteration. Carried on, later fits take few iterations,
        each one by itself as many as the first.

        Raises:
            UserError: where the last level is not reached however soon the fits are at their best. A warning where
                that asks for bests sooner than usual.
        """
        if levels < 2:
            return
        rest = (0 if ends_early else self.patience) + self.smooth // 2  # of a fit, after its best
        least, unjudged = self.smooth - self.smooth // 2, self.smooth - 1  # the earliest best; so far a fit has none

        def needed(best: int) -> int:
            """Where the fits before the last are at their best at `best`; carried on, all but the first at once."""
            bests = [best, *[least if self.carry else best] * (levels - 2)]
            passed = sum(bests) + unjudged if self.carry else max(best, unjudged)
            own = round((self.kappa or 1.0) * passed) + 1 if self.second_pass else 0
            return sum(bests) + (levels - 1) * rest + self.smooth + own

        if iterations < needed(least):
            raise UserError(
                f"{levels} levels cannot be reached in {iterations} iterations, which is what all fits together have:"
                f" give at least {needed(least)} iterations, or fewer levels"
            )
        if iterations < needed(USUAL_BEST):
            latest = max(b for b in range(least, USUAL_BEST) if iterations >= needed(b))
            warnings.warn(
                f"the last of {levels} levels is reached only where the fits before it are at their best by iteration"
                f" {latest} of their own, which is usual at {USUAL_BEST} or so: all of them together have {iterations}"
                f" iterations, give {needed(USUAL_BEST)} or fewer levels",
                stacklevel=3,
            )


#: Plain fits of 64 x 64 pixels were at their best at 422 in the mean of docs/results/deep_image_prior.md (722
#: iterations of the oracle, less its patience of 300); noisier copies take less, larger pictures more.
USUAL_BEST = 400

#: An extrapolated second pass is between so many times the last stage: two noisy numbers of iterations can say
#: anything.
LEAST_RATIO, MOST_RATIO = 1.0, 1.5


class StagedWatch(Watch):
    """Fits the targets one after the other; each stage ends where the smoothed signal has been least for a while.

    The signal is an estimate of the error to the truth, up to a constant, that a leaf computes from the present
    iterate. It means nothing for the second pass, in which `values` holds its minimum in the last stage. Images are in
    stages of their own. Where the iterations that are left just do for the second pass, it begins at once, whatever
    stage it is, for as long as the longest stage so far asks for. told: what the signal is, and what the stages fit,
    for :meth:`reason`.
    """

    told: tuple[str, str] = ("the estimated error", "a first target")

    def __init__(
        self,
        measurement: Measurement,
        targets: list[Target],
        options: StageOptions,
        *,
        iterations: int,
        own_variance: Tensor,
    ) -> None:
        super().__init__(measurement)
        images, device = len(measurement.y), measurement.y.device
        self.average, self.limit, self.count = options.average, iterations, len(targets)
        self._options, self._targets = options, targets
        self._own = Target(measurement.y, None, own_variance)
        self.stage = torch.zeros(images, dtype=torch.long, device=device)
        self.begun = torch.zeros_like(self.stage)
        # the best iteration of each stage, from its beginning
        self.best = torch.zeros(images, self.count, dtype=torch.long, device=device)
        self.length = torch.zeros_like(self.stage)  # of the second pass
        self.done = torch.zeros(images, dtype=torch.bool, device=device)
        # the signal at the best of the newest stage that has ended
        self.lowest = torch.full((images,), torch.nan, dtype=torch.float64, device=device)
        self.hurried = self.done.clone()  # whether the limit cut the stages short
        self.age = torch.zeros_like(self.stage)  # iterations since the present stage began
        self.ring = torch.zeros(images, options.smooth, dtype=torch.float64, device=device)
        self.least = Patience(images, options.patience, device)
        self._set_targets()

    @abstractmethod
    def judge(self, f: Tensor) -> dict[str, Tensor]:
        """What is monitored of the iterate f [B, C, H, W], by name, each [B]; the one named `signal` decides.

        `self.stage` [B] says which target each image has, `self.age` [B] for how many iterations.
        """

    def ends(self, values: dict[str, Tensor]) -> Tensor | None:
        """Further reasons to end a stage, bool [B]; none unless a leaf has some."""
        del values
        return None

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        options = self._options
        self.age, left = iteration - self.begun, self.limit - iteration
        second = self.stage == self.count
        self.values = self.judge(average if self.average else output)
        signal = self.values[self.signal].double()
        self.values = {**self.values, self.signal: torch.where(second, self.lowest, signal)}
        self.ring[:, iteration % options.smooth] = signal
        staged = ~second & ~self.done
        judged = staged & (self.age >= options.smooth)
        self.least.update(iteration, self.ring.mean(1), judged)
        known = self.least.at > 0
        best = torch.where(known, (self.least.at - options.smooth // 2 - self.begun).clamp(min=1), 0)
        ended = staged & self.least.stopped
        also = self.ends(self.values)
        if also is not None:
            ended = ended | (judged & also)
        hurried = torch.zeros_like(ended)
        if options.second_pass:
            # Less noise takes longer, so a stage whose own best is not known yet asks for what those before it ask for,
            # or for its age.
            longest = torch.where(known, best, self.age)
            longest = longest if options.carry else torch.maximum(longest, self.best.amax(1))
            needed = self._pass_length(self._with_best(longest))
            hurried = staged & (left <= needed + 1)
            ended = ended | hurried
        self.best = torch.where(ended[:, None], self._with_best(best), self.best)
        self.lowest = torch.where(ended, torch.where(known, self.least.least, signal), self.lowest)
        last = ended & (self.stage == self.count - 1)
        finished = second & (self.age >= self.length) & ~self.done
        improved = (self.least.improved & staged) | (second & ~self.done)
        if options.second_pass:
            length = torch.where(hurried, needed, self._pass_length(self.best)).clamp(max=max(left, 0))
            self.length = torch.where(last | hurried, length, self.length)
        else:
            finished, ended = finished | last, ended & ~last
        self.done, self.hurried = self.done | finished, self.hurried | hurried
        self._enter_next(ended, hurried, iteration)
        begins = (ended & (self.stage == self.count)) if options.carry else ended
        return Verdict(improved=improved, stop=self.done, reset=ended & ~begins, restart=begins)

    def reason(self, image: int) -> str:
        signal, fitted = self.told
        fits = "fit" if self.count == 1 else "fits"
        if bool(self.hurried[image]):
            return (
                f"the limit left the given image no more than {int(self.length[image])} iterations after the {fits} of"
                f" {fitted}"
            )
        levels = ", ".join(str(int(b)) for b in self.best[image])
        which = f"{signal} was least at iteration{'s' if self.count > 1 else ''} {levels} of the {fits} of {fitted}"
        if not self._options.second_pass:
            return which
        return f"{which}, so the given image was fitted for {int(self.length[image])} iterations"

    def _enter_next(self, ended: Tensor, hurried: Tensor, iteration: int) -> None:
        self.stage = torch.where(hurried, self.count, self.stage + ended.long())
        self.begun = torch.where(ended, iteration, self.begun)
        self.least.reset(ended)
        self._set_targets()

    def _set_targets(self) -> None:
        targets = [*self._targets, self._own]
        self.y = self.of_stage([t.y for t in targets])
        if any(t.weight is not None for t in targets):
            ones = torch.ones_like(self.y)
            self.weight = self.of_stage([ones if t.weight is None else t.weight.expand_as(ones) for t in targets])

    def of_stage(self, tensors: list[Tensor]) -> Tensor:
        """Row b of the tensor [B, ...] that belongs to the stage of image b."""
        found = tensors[0]
        for k, tensor in enumerate(tensors[1:], start=1):
            found = torch.where((self.stage == k).view(-1, *[1] * (found.ndim - 1)), tensor, found)
        return found

    def _with_best(self, best: Tensor) -> Tensor:
        """self.best with the present stage's own number filled in."""
        columns = torch.arange(self.count, device=best.device)
        return torch.where(columns == self.stage[:, None], best[:, None], self.best)

    def _pass_length(self, best: Tensor) -> Tensor:
        """j of the second pass, int64 [B], from the best iterations [B, K] of the stages up to the present one."""
        columns = torch.arange(self.count, device=best.device)
        present = self.stage.clamp(max=self.count - 1)[:, None]
        seen = (columns <= present).double()
        filled = best.clamp(min=1).double()
        if self._options.carry:
            # Earlier stages brought the weights where the last one began; what they fitted beyond their best was
            # unlearned again.
            return ((self._options.kappa or 1.0) * (filled * seen).sum(1)).round().clamp(min=1).long()
        last = filled.gather(1, present)[:, 0]
        if self._options.kappa is not None or self.count < 2:
            return ((self._options.kappa or 1.0) * last).round().clamp(min=1).long()
        # log j = a + b log(variance of the target's noise), least squares over the stages there were, at the
        # measurement's own variance.
        x = torch.stack([t.variance.double().log() for t in self._targets], 1)
        z = filled.log()
        count = seen.sum(1, keepdim=True)
        x_mean, z_mean = ((v * seen).sum(1, keepdim=True) / count for v in (x, z))
        dx, dz = (x - x_mean) * seen, (z - z_mean) * seen
        slope = (dx * dz).sum(1) / dx.square().sum(1).clamp(min=1e-12)
        at_own = z_mean[:, 0] + slope * (self._own.variance.double().log() - x_mean[:, 0])
        return (at_own.exp().clamp(LEAST_RATIO * last, MOST_RATIO * last)).round().long()
