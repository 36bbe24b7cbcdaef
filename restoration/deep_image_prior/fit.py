"""The deep image prior as a state that is stepped: untrained networks, one fitted to each measurement. Knows neither
Lightning nor the loop around it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common.compute import warn_of_slow_bfloat16
from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from networks.untrained.layers import Conv, part
from restoration.deep_image_prior.adam import IndependentAdam
from restoration.deep_image_prior.curves import Curves
from restoration.deep_image_prior.memory import check_memory
from restoration.deep_image_prior.schedules import LAWS
from restoration.deep_image_prior.settings import DIPSettings
from restoration.deep_image_prior.terms.base import Term
from restoration.stopping.base import StoppingCriterion

LIMIT = "the limit of {} iterations was reached"


class DIPFit:
    """min_theta |A f_theta(z) - y|^2 over the weights of B independent networks, f = 2 u - 1 with the network's output
    u in (0, 1), stopped before n is fitted.

    One iteration: ``losses().sum().backward()``, a step of ``optimizer()``, ``observe()``; then the optimiser's
    gradients are set to None. Row b belongs to image measurement.index[b] and sample[b]: its weights, input and
    jitter come from its own random streams, so that it is the same alone and beside others. Ulyanov et al. 2018
    (1711.10925).

    Args:
        measurement: B images.
        settings: see DIPSettings.
        stopping: when to stop and which iterate is the answer.
        terms: beside the data term.
        sample: 0 for all unless given.

    Raises:
        UserError: where the image is smaller than the network allows, or larger than the memory does.
    """

    def __init__(
        self,
        measurement: Measurement,
        *,
        settings: DIPSettings,
        stopping: StoppingCriterion,
        random: RandomStreams,
        terms: Sequence[Term] = (),
        sample: Sequence[int] | None = None,
    ) -> None:
        settings.check(measurement.operator)
        if settings.bf16:
            warn_of_slow_bfloat16(measurement.y.device.type)
        self.measurement, self.settings, self.random = measurement, settings, random
        self.index, self.sample = (
            list(measurement.index),
            list(sample if sample is not None else [0] * len(measurement.index)),
        )
        self.rows = list(zip(self.index, self.sample, strict=True))
        y = measurement.y
        self.channels, self.height, self.width = measurement.operator.input_shape
        check_memory(
            settings.architecture, (self.channels, self.height, self.width), len(y), y.device, bf16=settings.bf16
        )
        self.network = settings.architecture.build(outputs=self.channels, copies=len(y)).to(y.device, y.dtype)
        self.network.reset(self._generators("dip_weights"))
        self._first = [p.detach().clone() for p in self.network.parameters()]
        self.z = self._input().to(y)
        # a tenth faster; grouped convolutions would copy
        if len(y) == 1 and y.device.type == "cpu" and y.dtype == torch.float32:
            self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's overloads leave it out)
            self.z = self.z.contiguous(memory_format=torch.channels_last)
        self.watch = stopping.watch(measurement, random=random, iterations=settings.iterations)
        self.terms = [t.begin(measurement, random=random, iterations=settings.iterations) for t in terms]
        self._noise = (
            random.sequence("dip_jitter", self.index, self.sample, self.z.shape[1:], y.device)
            if settings.jitter > 0
            else None
        )
        self._langevin = self._generators("dip_langevin")
        self.iteration = 0
        rows, device = len(y), y.device
        self.output = self.average = self.answer = torch.zeros(
            rows, self.channels, self.height, self.width, dtype=y.dtype, device=device
        )
        self.averaged = torch.zeros(rows, dtype=torch.bool, device=device)  # whether the average holds an output yet
        self.stopped = torch.zeros(rows, dtype=torch.bool, device=device)
        self.kept = self.stopped.clone()
        self.stopped_at = torch.zeros(rows, dtype=torch.long, device=device)
        self.kept_at = self.stopped_at.clone()
        self.target_error = torch.zeros(rows, dtype=torch.float64, device=device)
        self._checked: tuple[list[Tensor], Tensor] | None = None
        self.history = Curves()
        self._optimizer: IndependentAdam | None = None

    # One iteration.

    def optimizer(self) -> IndependentAdam:
        """Adam over the networks; the same object at every call."""
        if self._optimizer is None:
            self._optimizer = IndependentAdam(
                self.network.parameters(),
                lr=self.settings.learning_rate,
                copies=len(self.rows),
                factor=self.settings.learning_rate_factor,
            )
        return self._optimizer

    def losses(self) -> Tensor:
        """The loss of each row [B] at the present weights, with gradient: the mean squared error in [0, 1] units over
        what is measured, plus the terms.
        """
        z = self._jittered()
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            u = self.network(z)
        f = self._cropped(u.to(z.dtype)) * 2 - 1
        self.output = f.detach()
        error = self._squared_error(f)
        self.target_error = error.detach()
        return sum((t.loss(f, self.iteration + 1) for t in self.terms), start=error)

    @torch.no_grad()
    def observe(self) -> bool:
        """After the optimiser's step: average the output, ask the criterion, follow it; True when all rows have stopped
        or the limit is reached.
        """
        self.iteration += 1
        keep = self.settings.averaging * self.averaged.to(self.output).view(-1, 1, 1, 1)
        self.average = self.output + keep * (self.average - self.output)
        self.averaged = torch.ones_like(self.averaged)
        verdict = self.watch.update(self.iteration, self.output, self.average)
        improved = verdict.improved & ~self.stopped
        candidate = self.average if self.watch.average else self.output
        self.answer = torch.where((improved | (~self.kept & ~self.stopped)).view(-1, 1, 1, 1), candidate, self.answer)
        self.kept_at = torch.where(improved, self.iteration, self.kept_at)
        self.kept = self.kept | improved
        self.stopped_at = torch.where(verdict.stop & ~self.stopped, self.iteration, self.stopped_at)
        self.stopped = self.stopped | verdict.stop
        self.history.record(self.iteration, {**self.watch.values, "data_error": self.target_error})
        for term in self.terms:
            term.after_step(self.output, self.average, self.iteration)
        self._langevin_noise()
        self._follow(verdict.reset, verdict.restart)
        self._backtrack()
        self._go_back_to_start(verdict.restart)
        if self.iteration >= self.settings.iterations:
            return True
        look = self.iteration % 10 == 0 or self.stopped.device.type == "cpu"  # a look waits for the device
        return look and bool(self.stopped.all())

    # What came of it.

    def reason(self, row: int) -> str:
        """One sentence: why this row stopped, when, and which iterate is the answer."""
        stopped = bool(self.stopped[row])
        why = self.watch.reason(row) if stopped else LIMIT.format(self.settings.iterations)
        when = int(self.stopped_at[row]) if stopped else self.iteration
        kind = "averaged" if self.watch.average else "raw"
        return (
            f"stopped after {when} iterations because {why}; the answer is the {kind} output of iteration"
            f" {self.answer_at(row)}"
        )

    def answer_at(self, row: int) -> int:
        """The iteration whose output is the answer of this row: the newest where the criterion has kept none."""
        if bool(self.kept[row]):
            return int(self.kept_at[row])
        return int(self.stopped_at[row]) if bool(self.stopped[row]) else self.iteration

    def curves(self) -> dict[str, list[list[float]]]:
        """What the criterion monitored, and the error to the target: by name, for each row, a number for each iteration
        (NaN where there was none).

        Those of a row end where it stopped: how long its neighbours went on says nothing about it.
        """
        found, after = {}, torch.arange(1, self.iteration + 1, device=self.stopped.device) > self.stopped_at[:, None]
        after &= self.stopped[:, None]
        for name, values in self.history.upto(self.iteration).items():
            found[name] = values.T.masked_fill(after, math.nan).tolist()
        return found

    def close(self) -> None:
        """End the thread that draws the jitter."""
        if self._noise is not None:
            self._noise.close()

    # Saving and going on.

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iterations depend on, beside the optimiser's own state; tensors and plain values."""
        names = (
            "iteration",
            "output",
            "average",
            "answer",
            "averaged",
            "stopped",
            "kept",
            "stopped_at",
            "kept_at",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "history": self.history.upto(self.iteration),
            "parameters": [p.detach().clone() for p in self.network.parameters()],
            "checked": None if self._checked is None else {"weights": self._checked[0], "error": self._checked[1]},
            "jitter": None if self._noise is None else self._noise.state(),
            "langevin": [g.get_state() for g in self._langevin],
            "watch": self.watch.state_dict(),
            "terms": [t.state_dict() for t in self.terms],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        for name in (
            "iteration",
            "output",
            "average",
            "answer",
            "averaged",
            "stopped",
            "kept",
            "stopped_at",
            "kept_at",
        ):
            value = state[name]
            setattr(self, name, value.to(self.z.device) if isinstance(value, Tensor) else value)
        self.history.restore(state["history"], self.z.device)
        self.network.copy_from([v.to(self.z.device) for v in state["parameters"]], list(range(len(self.rows))))
        checked = state["checked"]
        self._checked = (
            None
            if checked is None
            else ([w.to(self.z.device) for w in checked["weights"]], checked["error"].to(self.z.device))
        )
        for generator, value in zip(self._langevin, state["langevin"], strict=True):
            generator.set_state(value.cpu())
        self.watch.load_state_dict(state["watch"])
        for term, value in zip(self.terms, state["terms"], strict=True):
            term.load_state_dict(value)
        if self._noise is not None:
            self._noise.restore_state(state["jitter"])

    # Parts.

    def _generators(self, stream: str) -> list[torch.Generator]:
        seeds = [int(self.random.generator(stream, i, s).integers(2**62)) for i, s in self.rows]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def _input(self) -> Tensor:
        """z [B, d, H', W']: H' and W' are the next multiples that the network can halve."""
        recipe = self.settings.architecture
        height, width = (math.ceil(n / recipe.multiple) * recipe.multiple for n in (self.height, self.width))
        if self.settings.input == "meshgrid":
            down, right = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
            return torch.stack([right, down])[None].expand(len(self.rows), -1, -1, -1)
        draw = self.random.uniform if self.settings.input == "uniform" else self.random.normal
        return 0.1 * torch.stack([draw("dip_input", i, s, (recipe.inputs, height, width)) for i, s in self.rows])

    def _jittered(self) -> Tensor:
        """z plus fresh noise."""
        if self._noise is None:
            return self.z
        noise = LAWS[self.settings.jitter_law](self._noise.next()).to(self.z)
        if self.settings.jitter_schedule == "constant":
            return self.z + self.settings.jitter * noise
        sizes = [self.settings.jitter * self.settings.jitter_factor(n) for n in self.optimizer().counts()]
        return self.z + torch.tensor(sizes, dtype=self.z.dtype, device=self.z.device).view(-1, 1, 1, 1) * noise

    def _cropped(self, u: Tensor) -> Tensor:
        top, left = (u.shape[-2] - self.height) // 2, (u.shape[-1] - self.width) // 2
        return u[..., top : top + self.height, left : left + self.width]

    def _squared_error(self, f: Tensor) -> Tensor:
        """Mean over the measured values of ((A f - y) / 2)^2, [B]."""
        error = (self.measurement.operator(f) - self.watch.y).square() / 4
        weight = self.watch.weight
        mask = self.measurement.operator.mask
        if mask is not None:
            weight = mask.to(error) if weight is None else weight * mask.to(error)
        if weight is None:
            return error.flatten(1).mean(1)
        weight = weight.expand_as(error)
        return (weight * error).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)

    def _langevin_noise(self) -> None:
        """Langevin noise on the weights of the convolutions."""
        if self.settings.langevin == 0:
            return
        size = self.settings.langevin * self.settings.learning_rate
        sizes = [size * self.settings.learning_rate_factor(n - 1) for n in self.optimizer().counts()]
        for module in self.network.modules():
            if isinstance(module, Conv):
                for k, generator in enumerate(self._langevin):
                    share = part(module.weight, k, len(self.rows))
                    share.add_(sizes[k] * torch.randn(share.shape, generator=generator, dtype=torch.float32).to(share))

    def _follow(self, reset: Tensor | None, restart: Tensor | None) -> None:
        """Fresh moments for rows whose target has changed; a check of theirs before that is worth nothing."""
        changed = [c for c in (reset, restart) if c is not None]
        rows = torch.stack(changed).any(0).nonzero().flatten().tolist() if changed else []
        if rows:
            self.optimizer().reseed_rows(rows)
            if self._checked is not None:
                self._checked[1][rows] = math.inf

    def _go_back_to_start(self, restart: Tensor | None) -> None:
        rows = [] if restart is None else restart.nonzero().flatten().tolist()
        if not rows:
            return
        self.network.copy_from(self._first, rows)
        self.averaged[rows] = False
        self.kept[rows] = False
        self.kept_at[rows] = 0
        if self._noise is not None:
            # The first pass over this target sees the jitter that a fit of it alone would see.
            self._noise.reseed_rows({k: self.random.generator("dip_jitter", *self.rows[k]) for k in rows})

    def _backtrack(self) -> None:
        """Every so often: rows whose error to the target has risen by more than backtrack_db go back to the weights of
        the last check.
        """
        if self.settings.backtrack_db == 0 or self.iteration % self.settings.backtrack_every:
            return
        now = [p.detach().clone() for p in self.network.parameters()]
        if self._checked is None:
            self._checked = (now, self.target_error.clone())
            return
        weights, error = self._checked
        fell = (self.target_error > error * 10 ** (self.settings.backtrack_db / 10)).tolist()
        back = [k for k, f in enumerate(fell) if f]
        self.network.copy_from(weights, back)
        for k in range(len(self.rows)):
            if k not in back:
                for old, new in zip(weights, now, strict=True):
                    part(old, k, len(self.rows)).copy_(part(new, k, len(self.rows)))
                error[k] = self.target_error[k]
