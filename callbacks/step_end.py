"""The end of a step, when everything that was due at it is done: its log row, its validation, its grid."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from common.private_names import shift_logged_steps


class StepEnd(pl.Callback):
    """A callback with a hook that Lightning lacks: ``on_step_end`` comes after an optimiser step, the row that was
    logged of it, and the validation that was due at it.

    Whatever is saved there has lost nothing of the step.
    """

    may_end_the_run = False

    def on_step_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Once after every optimiser step, in the order of the callbacks; that which may end the run comes last."""

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        if stage == "fit" and not isinstance(loop.on_advance_end, _Ends):
            loop.on_advance_end = _Ends(trainer, loop.on_advance_end)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        ends_of(trainer).step = trainer.global_step


class _Ends:
    """In place of what Lightning calls after a batch: does that, then calls whoever waits for the end of the step.

    step: the newest whose end was told.
    """

    def __init__(self, trainer: pl.Trainer, inner: Any) -> None:
        self._trainer, self._inner, self.step = trainer, inner, -1

    def __call__(self, data_fetcher: Any) -> None:
        self._inner(data_fetcher)
        if self._trainer.global_step == self.step:  # gradients are still being accumulated
            return
        self.step = self._trainer.global_step
        callbacks = getattr(self._trainer, "callbacks")  # noqa: B009  (Lightning sets it outside of the class)
        waiting = [c for c in callbacks if isinstance(c, StepEnd)]
        for callback in sorted(waiting, key=lambda c: c.may_end_the_run):
            callback.on_step_end(self._trainer, self._trainer.lightning_module)


def ends_of(trainer: pl.Trainer) -> _Ends:
    """What tells the ends of this trainer's steps; :class:`StepEnd` has put it there."""
    loop: Any = trainer.fit_loop.epoch_loop
    return loop.on_advance_end


@contextmanager
def as_at_a_step_end(trainer: pl.Trainer) -> Iterator[None]:
    """For saving at the end of a step: inside, the counters are those of ``on_train_batch_end``, from which Lightning
    goes on with the next step, and repeats no validation, wherever in an epoch the step lies.
    """
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    progress.total.completed -= 1
    progress.current.completed -= 1
    shift_logged_steps(trainer, -1)
    try:
        yield
    finally:
        shift_logged_steps(trainer, 1)
        progress.total.completed += 1
        progress.current.completed += 1


def as_before_a_validation(trainer: pl.Trainer) -> None:
    """For saving instead of a validation, or inside of one: the counters become those of one that has just begun, from
    which Lightning goes on with that validation.
    """
    progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.current.reset()
    progress.total.processed = progress.total.completed
    progress.total.ready = progress.total.started = progress.total.completed + 1


def as_at_a_validation(trainer: pl.Trainer) -> None:
    """For a validation that makes up for one that was broken off: the counters forget that, or the next checkpoint
    would say it again.
    """
    progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.total.ready = progress.total.started = progress.total.processed = progress.total.completed
