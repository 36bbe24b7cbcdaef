"""Stops a run whose loss or gradient is no longer a number, with the step and the layer, before a checkpoint of it is
written.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.non_finite import are_finite, origin_of
from common.batch import Batch
from common.errors import UserError
from common.sharded import local
from lightning_modules.base import TrainedModule
from lightning_modules.run_module import RunModule

_KEPT_BYTES = 256 * 2**20  # of batches that no look has seen yet


@dataclass
class _Part:
    """One batch that was trained on since the last look: a step, or a part of one where gradients are accumulated."""

    batch: Batch
    images_seen: int  # when it began
    step: int = 0  # the optimiser step it ended in, counted from 1; 0 while gradients are still being accumulated
    loss: Tensor | None = None
    norm: Tensor | None = None


class FiniteLoss(pl.Callback):
    """UserError that names the step and the first layer where a number is NaN or infinite; the last good checkpoint
    stays.

    Every checkpoint is preceded by a look, also at the weights, their averages and the optimiser's state. Several
    processes look together and stop together, with the words of the one that is nearest to the origin. Must stand
    before the checkpoint callback in the list, which Lightning ensures.

    Args:
        every_n_steps: how often the losses and gradient norms are looked at on an accelerator, where a look waits for
            the device; on a CPU it is every step. A step whose gradient is not finite never reaches the weights (see
            TrainedModule), so a look that comes later still finds the network as it was; it then repeats the step in
            question, with the same noise, and watches the layers. With 16-mixed a gradient that overflows is normal:
            the scaler skips that step and lowers its scale; the run stops where the loss itself is not finite, or where
            the scale has fallen below 1.
    """

    def __init__(self, *, every_n_steps: int = 20) -> None:
        self.every_n_steps = max(1, every_n_steps)
        self._parts: list[_Part] = []
        self._stepped = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._parts, self._stepped = [], trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: RunModule, batch: Batch, batch_idx: int) -> None:
        self._parts.append(_Part(batch, pl_module.images_seen))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: RunModule, outputs: dict, batch: object, batch_idx: int
    ) -> None:
        part, step = self._parts[-1], trainer.global_step
        loss = part.loss = outputs["loss"].detach()
        if step == self._stepped:
            return
        self._stepped, part.norm = step, pl_module.grad_norm
        for each in self._parts:
            each.step = each.step or step
        size = part.batch.image.nbytes * len(self._parts)
        if not waits_for_device(loss) or step % self.every_n_steps == 0 or size > _KEPT_BYTES:
            self._look(trainer, pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: RunModule, checkpoint: dict) -> None:
        self._look(trainer, pl_module, saving=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: RunModule, exception: BaseException) -> None:
        self._parts = []

    def _look(self, trainer: pl.Trainer, pl_module: RunModule, *, saving: bool = False) -> None:
        parts = [p for p in self._parts if p.loss is not None]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        bad = self._bad_part(parts, scaled=scaler is not None)
        where = _bad_state(trainer, pl_module) if saving and bad is None else None
        shrunk = scaler is not None and scaler.is_enabled() and scaler.get_scale() < 1.0
        self._parts = [p for p in self._parts if p.step == 0]  # parts of a step that has not ended stay
        stop = bad is not None or where is not None or shrunk
        if trainer.world_size > 1:
            stop_all = trainer.strategy.reduce_boolean_decision(stop, all=False)
        else:
            stop_all = stop
        if not stop_all:
            return
        report = (9, "")  # how far from the origin, and the words
        if bad is not None:
            report = _why(pl_module, parts, bad)
        elif where is not None:
            report = (3, f"not finite at step {trainer.global_step} before it was saved: {where}")
        elif shrunk:
            report = (
                3,
                (
                    f"at step {trainer.global_step} the loss scale of 16-mixed has fallen below 1, since gradients"
                    " overflow at every step"
                ),
            )
        if trainer.world_size > 1:
            reports = [report] * trainer.world_size
            torch.distributed.all_gather_object(reports, report)
            report = min(reports)
        raise UserError(f"{report[1]}; {_ADVICE}; {_last_good(trainer)}")

    def _bad_part(self, parts: list[_Part], *, scaled: bool) -> _Part | None:
        """The first part whose loss, or whose step's gradient, is not finite: one transfer for all of them."""
        if not parts:
            return None
        losses = [p.loss for p in parts if p.loss is not None]  # of all: `_look` passes those that have one
        one = torch.ones((), device=losses[0].device)
        norms = [p.norm if p.norm is not None and not scaled else one for p in parts]
        finite = (
            torch.stack([torch.stack([x.float(), n.float()]) for x, n in zip(losses, norms, strict=True)])
            .isfinite()
            .all(1)
            .tolist()
        )
        return next((p for p, good in zip(parts, finite, strict=True) if not good), None)


def waits_for_device(tensor: Tensor) -> bool:
    """Whether reading a number of the tensor waits for an accelerator."""
    return tensor.device.type != "cpu"


_ADVICE = "lower model.learning_rate, check the data, or train in 32 bits (--trainer.precision 32-true)"


def _last_good(trainer: pl.Trainer) -> str:
    path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    return f"the last good checkpoint is '{path}'" if path.exists() else "no checkpoint had been written yet"


def _bad_state(trainer: pl.Trainer, pl_module: RunModule) -> str | None:
    """What of a checkpoint is not finite: one transfer for all tensors."""
    average = pl_module.average.tensors() if pl_module.average is not None else []
    states = [
        t
        for o in trainer.optimizers
        for s in o.state.values()
        for t in s.values()
        if isinstance(t, Tensor) and t.is_floating_point()
    ]
    named = list(pl_module.named_parameters())
    groups = {"": [p.detach() for _, p in named], "the averaged weights": average, "the optimiser's state": states}
    groups = {name: [local(t) for t in tensors] for name, tensors in groups.items()}
    for name, tensors in groups.items():
        good = are_finite(tensors)
        if not all(good):
            return name or f"the weight '{named[good.index(False)][0]}'"
    return None


def _why(pl_module: RunModule, parts: list[_Part], bad: _Part) -> tuple[int, str]:
    """(how far from the origin, one clause): what is not finite, at which step, and where it began.

    The gradients of all processes are added up, so a process whose own loss is fine sees only that their sum is not:
    the words of another are better.
    """
    loss = math.nan if bad.loss is None else float(bad.loss)
    what = (
        f"the gradient is not finite at step {bad.step}"
        if math.isfinite(loss)
        else f"the training loss is {loss} at step {bad.step}"
    )
    if pl_module.sharded:  # a step cannot be repeated by one process alone
        return 2, what
    for part in [p for p in parts if p.step == bad.step]:
        if isinstance(pl_module, TrainedModule):
            origin = origin_of(pl_module, part.batch, part.images_seen)
        else:
            origin = pl_module.non_finite_part()
        if origin is not None:
            return (1 if math.isfinite(loss) else 0), f"{what}, {origin}"
    return 2, f"{what}, and no layer shows it when the step is repeated"
