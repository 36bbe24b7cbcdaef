"""Deep image prior as a method: one untrained network per image, fitted to the measurement and stopped in time."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from networks.untrained.base import Architecture
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.schedules import JitterLaw, Schedule
from restoration.deep_image_prior.settings import DIPSettings, InputKind, settings_for
from restoration.deep_image_prior.terms.base import Term
from restoration.deep_image_prior.threads import side_by_side
from restoration.stopping.base import StoppingCriterion
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.held_out import HeldOutPixels

Task = Literal[
    "denoising",
    "super_resolution_x4",
    "super_resolution_x8",
    "text_inpainting",
    "region_inpainting",
    "large_hole_inpainting",
    "random_pixels",
    "sparse_pixels",
    "jpeg",
]

TOGETHER = 16  # networks in one pass on an accelerator


class DIP(Method):
    """x = 2 u_theta(z) - 1 with theta from gradient steps on |A (2 u_theta(z) - 1) - y|^2, stopped before the noise is
    fitted; no training, no prior file.

    Works for every operator that can be differentiated through, and every noise. Several samples are several
    networks and inputs z. Ulyanov et al. 2018 (1711.10925). Each image has its own seed and stopping point. The
    trace holds what the criterion monitored, the notes say why it stopped.

    Args:
        task: whose published settings are taken, null for those nearest to the operator; all following options that are
            not null replace them.
        architecture: of the network; null for the task's, or a small one where a side has less than 96 pixels.
        iterations: the most, all stages of the criterion counted.
        learning_rate: of Adam.
        input: z.
        jitter: of z at each iteration; null for the task's (3.5 times as much where z is normal), or none
            where the architecture asks for a constant input.
        averaging: of the outputs.
        backtrack_db: see restoration/deep_image_prior/settings.py.
        langevin: noise on the weights.
        learning_rate_schedule: constant, cosine or exponential, see restoration/deep_image_prior/schedules.py.
        jitter_schedule: likewise.
        schedule_iterations: until a schedule has come to its end, null for all.
        jitter_law: normal, uniform or sign.
        stopping: the criterion, see restoration/stopping/; null for HeldOutPixels with a second pass and twice the
            task's iterations, the best of those that need not know the noise (docs/results/deep_image_prior.md), or,
            where a measurement has no noise, for all of the task's iterations.
        terms: added to the loss, see restoration/deep_image_prior/terms/.
        together: how many networks are fitted in one pass; null for 1 on a CPU, where more is not faster, and 16 on an
            accelerator.
        workers: how many such passes run side by side, each on one thread; null for as many as there are threads on a
            CPU, 1 on an accelerator.
        bf16: the network in bfloat16.

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"gradient"})

    def __init__(
        self,
        *,
        task: Task | None = None,
        architecture: Architecture | None = None,
        iterations: int | None = None,
        learning_rate: float | None = None,
        input: InputKind | None = None,
        jitter: float | None = None,
        averaging: float | None = None,
        backtrack_db: float | None = None,
        langevin: float | None = None,
        learning_rate_schedule: Schedule | None = None,
        jitter_schedule: Schedule | None = None,
        schedule_iterations: int | None = None,
        jitter_law: JitterLaw | None = None,
        stopping: StoppingCriterion | None = None,
        terms: list[Term] | None = None,
        together: int | None = None,
        workers: int | None = None,
        bf16: bool = False,
    ) -> None:
        for name, value in (("together", together), ("workers", workers)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.task, self.architecture, self.together, self.workers = task, architecture, together, workers
        self.stopping = stopping
        self.terms = list(terms or [])
        self.uses_truth = stopping is not None and stopping.uses_truth
        self.changes = {
            "iterations": iterations,
            "learning_rate": learning_rate,
            "input": input,
            "jitter": jitter,
            "averaging": averaging,
        }
        self.changes |= {"backtrack_db": backtrack_db, "langevin": langevin, "bf16": bf16}
        self.changes |= {"learning_rate_schedule": learning_rate_schedule, "jitter_schedule": jitter_schedule}
        self.changes |= {"schedule_iterations": schedule_iterations, "jitter_law": jitter_law}
        # What is wrong with the options whatever the image is said now; which input suits an architecture, where there
        # is one.
        known = {k: v for k, v in self.changes.items() if v is not None and (architecture is not None or k != "input")}
        DIPSettings(**{"architecture": architecture or _NO_IMAGE, **known})

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        settings = self.settings(operator, noise)
        settings.check(operator)
        criterion = self.criterion(noise, settings)
        criterion.check(operator, noise)
        criterion.check_iterations(settings.iterations)
        for term in self.active_terms():
            term.check(operator, noise)
        mask = operator.mask
        if mask is not None and not mask.flatten(1).any(1).all():
            raise Unsupported(
                "the mask is 0 everywhere, so nothing was measured: give a mask with known pixels (white)"
            )

    def settings(self, operator: Operator, noise: Noise | None = None) -> DIPSettings:
        """The settings for measurements of this operator with this noise."""
        settings = settings_for(operator, self.task, self.architecture, **self.changes)
        if self.stopping is None and self.changes["iterations"] is None and noise is not None and noise.sigma > 0:
            settings = replace(settings, iterations=2 * settings.iterations)
        return settings

    def criterion(self, noise: Noise, settings: DIPSettings) -> StoppingCriterion:
        """When to stop a measurement with this noise."""
        if self.stopping is not None:
            return self.stopping
        return HeldOutPixels(second_pass=True) if noise.sigma > 0 else FixedIterations(iterations=settings.iterations)

    def calls(self) -> Cost:
        """The most there can be: fits that stop earlier ask less."""
        iterations = self.changes["iterations"] or 3000
        own = [t.per_iteration for t in self.terms]
        return Cost(nfe=sum(c.nfe for c in own) * iterations, backwards=sum(c.backwards for c in own) * iterations)

    def active_terms(self) -> list[Term]:
        """The terms of a fit; a method with a prior adds its own."""
        return self.terms

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        whole = measurement.repeat(num_samples)
        index, sample = whole.index, [r % num_samples for r in range(len(whole.y))]
        chains = len(index)
        settings = self.settings(measurement.operator, measurement.noise)
        stopping = self.criterion(measurement.noise, settings)
        together = self.together or (1 if measurement.y.device.type == "cpu" else TOGETHER)
        terms = self.active_terms()
        for term in terms:
            term.calls_of_rows = 0
        answer = measurement.y.new_zeros(chains, *measurement.operator.input_shape)
        notes, trace = [""] * chains, {}
        groups = list(_groups(chains, together))
        workers = min(
            len(groups), self.workers or (torch.get_num_threads() if measurement.y.device.type == "cpu" else 1)
        )

        def job(rows: list[int]) -> Callable[[], Iterator[tuple[DIPFit, int | None]]]:
            def iterations() -> Iterator[tuple[DIPFit, int | None]]:
                part, samples = whole.pick(rows), [sample[r] for r in rows]
                fit = DIPFit(part, settings=settings, stopping=stopping, terms=terms, random=random, sample=samples)
                for at in run(fit):
                    yield fit, at
                yield fit, None  # it has ended

            return iterations

        done = [0] * len(groups)
        for number, (fit, at) in side_by_side([job(rows) for rows in groups], workers=max(1, workers)):
            rows = groups[number]
            if at is not None:
                if on_step is not None:
                    answer[rows] = fit.average.to(answer)
                    done[number] = at * len(rows)
                    on_step(sum(done) - 1, chains * settings.iterations, answer)
                continue
            done[number] = settings.iterations * len(rows)
            answer[rows] = fit.answer.to(answer)
            curves = fit.curves()
            for k, row in enumerate(rows):
                notes[row] = fit.reason(k)
                which = "" if chains == 1 else f"/{index[row]}/{sample[row]}"
                trace |= {f"{name}{which}": values[k] for name, values in curves.items()}
                trace[f"answer_at{which}"] = [float(fit.answer_at(k))]  # one number, not a curve
        # what was called: it may have stopped early
        cost = replace(self.calls(), nfe=round(sum(term.calls_of_rows for term in terms) / chains))
        return Restoration(samples=answer.unflatten(0, (-1, num_samples)), cost=cost, trace=trace, notes=tuple(notes))


def run(fit: DIPFit) -> Iterator[int]:
    """Iterate until all rows have stopped; gives the number of iterations after each."""
    optimizer = fit.optimizer()
    try:
        with torch.enable_grad():
            finished = False
            while not finished:
                fit.losses().sum().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                finished = fit.observe()
                yield fit.iteration
    finally:
        fit.close()


def _groups(chains: int, together: int) -> list[list[int]]:
    return [list(range(start, min(start + together, chains))) for start in range(0, chains, together)]


class _NoImage(Architecture):
    inputs, multiple, least = 32, 1, 1

    def build(self, *, outputs: int, copies: int = 1):
        raise NotImplementedError


_NO_IMAGE = _NoImage()
