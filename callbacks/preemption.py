"""Survives pre-emption: on SIGTERM, SIGUSR1 or Ctrl-C the run saves and leaves with an exit code that says so."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch

from callbacks.run_checkpoint import RunCheckpoint, wait_for_files
from callbacks.step_end import StepEnd, as_at_a_step_end, as_at_a_validation, as_before_a_validation, ends_of
from common.errors import EXIT_PREEMPTED
from common.files import write_atomically
from common.private_names import leave_out_the_sigterm_broadcast
from common.run_folder import LAST, PREEMPTED
from common.stop_signals import asked_to_stop

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
VALIDATION, MEASURES = "validation", "measures"  # what a run that was stopped in it has to make up


class Preempted(SystemExit):
    """The run was stopped from outside and can go on.

    due: what was broken off, VALIDATION or MEASURES; None where the step was over.
    """

    def __init__(self, code: int, due: str | None = None) -> None:
        super().__init__(code)
        self.due, self.saved = due, False


class Preemption(StepEnd):
    """A signal in a step lets the step end: last.ckpt is written, and the process exits with 75 (130 after Ctrl-C).
    A validation, a grid or a measurement by drawn images is not begun any more, or broken off: at once where there is
    one process, between two batches where there are several. It is made up for when the run goes on. So is what was
    due at the last step.

    It replaces Lightning's handlers, which save wherever Python happens to be and let SIGTERM exit with 0, so that a
    cluster books the job as completed. A second signal of Ctrl-C stops at once.

    Args:
        every_n_steps: how often several processes ask each other, in steps, and in batches of a validation or a
            measurement (one process: every step).
    """

    may_end_the_run = True

    def __init__(self, *, every_n_steps: int = 10) -> None:
        self.every_n_steps = max(1, every_n_steps)
        self._signal: int | None = None
        self._agreed = False  # by all processes, to stop at this step
        self._stepped = -1
        self._started = -1  # where nothing is gained yet that the last checkpoint has not
        self._whole = True  # whether the newest batch has ended its optimiser step
        self._alone = True  # one process, which need not ask
        self._breakable: str | None = None  # what is going on now that may be broken off
        self._batches = 0  # of it, that this process has come to
        self._due: str | None = None  # what the run that goes on has to make up
        self._limit: int | None = None  # the trainer's, while it is raised
        self._listening, self._process = False, 0
        self._previous: dict[int, Any] = {}

    def state_dict(self) -> dict[str, str | None]:
        return {"due": self._due}

    def load_state_dict(self, state_dict: dict[str, str | None]) -> None:
        self._due = state_dict["due"]

    # What is made up for when a run goes on.

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        if self._due is not None and loop.max_steps > 0:  # else a run that was stopped at its last step would be over
            self._limit, loop.max_steps = loop.max_steps, loop.max_steps + 1

    def _lower_limit(self, trainer: pl.Trainer) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        if self._limit is not None:
            self._limit, loop.max_steps = None, self._limit

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._listen(trainer)
        if self._due == MEASURES:  # by the callback that measures, which came first
            self._due, self._started = None, -1  # something is gained
            self._lower_limit(trainer)

    # When a signal comes.

    def _listen(self, trainer: pl.Trainer) -> None:
        if self._listening:
            return
        self._stepped = self._started = trainer.global_step
        self._alone, self._listening, self._process = trainer.world_size == 1, True, os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._step_of = lambda: trainer.global_step
            self._previous = {s: signal.signal(s, self._remember) for s in SIGNALS}
            leave_out_the_sigterm_broadcast(trainer)  # of Lightning's handler, which was just replaced
            if (number := asked_to_stop()) is not None:  # and a library has swallowed it
                self._remember(number, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that reads data, which was told with the others: its reader decides
            return
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
        nothing_gained = self._step_of() == self._started
        if self._alone and (self._breakable or nothing_gained):
            raise Preempted(self._code(), self._breakable)

    def _code(self) -> int:
        return 130 if self._signal == signal.SIGINT else EXIT_PREEMPTED

    @property
    def _wanted(self) -> bool:
        return self._agreed or (self._alone and self._signal is not None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._whole = trainer.global_step != self._stepped
        if not self._whole:  # gradients are still being accumulated, and no checkpoint has them
            return
        self._stepped = trainer.global_step
        if not self._alone and trainer.global_step % self.every_n_steps == 0:
            self._agreed = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._lower_limit(trainer)
        if self._due == VALIDATION:
            self._due, ends_of(trainer).step = None, -1  # the end of this step was not told
            as_at_a_validation(trainer)
        if self._whole:
            self.begin(trainer, VALIDATION)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.at_a_batch(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.through(trainer)
        self.end()  # what follows is logged in no time
        self._started = -1  # something is gained

    def on_step_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._wanted:
            self._leave(trainer, None)

    def begin(self, trainer: pl.Trainer, what: str) -> None:
        """From here on a signal breaks off `what`; one that came already does so now."""
        self._listen(trainer)  # a measurement is made up for before training starts
        if self._wanted:
            self._leave(trainer, what)
        self._breakable, self._batches = what, 0
        if self._wanted:  # it came between the two lines
            self._leave(trainer, what)

    def at_a_batch(self, trainer: pl.Trainer) -> None:
        """Between two batches of what may be broken off: several processes ask each other, now and then."""
        if self._breakable is None or self._alone:
            return
        if self._batches % self.every_n_steps == 0:
            self._ask(trainer, working=True)
        self._batches += 1

    def through(self, trainer: pl.Trainer) -> None:
        """This process has no batches left: it answers the others until they have none, so that all have asked the same
        number of times.
        """
        if self._alone:
            return
        while self._breakable is not None and self._ask(trainer, working=False):
            pass
        self._breakable = None

    def end(self) -> None:
        """From here on a signal waits for the end of the step again."""
        self._breakable = None

    def _ask(self, trainer: pl.Trainer, *, working: bool) -> bool:
        """Whether any process has batches left. Where one was told to stop meanwhile, all leave."""
        mine = torch.tensor(
            [self._signal is not None, working], dtype=torch.float32, device=trainer.strategy.root_device
        )
        told, left = trainer.strategy.reduce(mine, reduce_op="sum").tolist()
        self._agreed = self._agreed or told > 0
        if left and self._agreed:  # else it is done, and the step ends
            self._leave(trainer, self._breakable)
        return left > 0

    # Saving.

    def _leave(self, trainer: pl.Trainer, due: str | None) -> None:
        leaving = Preempted(self._code(), due)
        self._save(trainer, leaving)
        strategy: Any = trainer.strategy  # of several processes: it has a cluster environment
        if trainer.global_rank and not strategy.cluster_environment.creates_processes_externally:
            # Lightning kills the first process, which may still be writing, as soon as one that it started fails
            leaving.code = 0
        raise leaving

    def _save(self, trainer: pl.Trainer, leaving: Preempted) -> None:
        self._breakable, leaving.saved, folder = None, True, Path(trainer.default_root_dir)
        gained = trainer.global_step != self._started
        if gained:  # else the last checkpoint is what there is
            self._due = leaving.due
            if leaving.due == VALIDATION:
                as_before_a_validation(trainer)
                trainer.save_checkpoint(folder / LAST)
            elif leaving.due == MEASURES:
                with as_at_a_step_end(trainer):
                    trainer.save_checkpoint(folder / LAST)
                    for saving in _savings(trainer):  # whose turn at this step was after what is broken off
                        saving.save_milestone(trainer)
            elif not any(saving.saved_step == trainer.global_step for saving in _savings(trainer)):
                with as_at_a_step_end(trainer):
                    trainer.save_checkpoint(folder / LAST)
        wait_for_files(trainer)
        if trainer.is_global_zero:
            write_atomically(folder / PREEMPTED, json.dumps({"step": trainer.global_step}))
            saved = "saved" if gained else "before a step was done"
            print(f"stopped at step {trainer.global_step}, {saved}; run the same command again to go on", flush=True)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous, self._listening = {}, False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._breakable = None
        try:
            if isinstance(exception, Preempted) and not exception.saved:  # the handler has broken something off
                self._save(trainer, exception)
        finally:
            self._restore_handlers()


def _savings(trainer: pl.Trainer) -> list[RunCheckpoint]:
    callbacks = getattr(trainer, "callbacks")  # noqa: B009  (Lightning sets it outside of the class)
    return [c for c in callbacks if isinstance(c, RunCheckpoint)]


class Breakable:
    """What may be broken off, for whoever does it.

    at_a_batch: to be called before each of its batches. through: after the last one, before anything is asked of other
    processes.
    """

    def __init__(self, trainer: pl.Trainer, found: Preemption | None) -> None:
        self._trainer, self._found = trainer, found

    def at_a_batch(self) -> None:
        if self._found is not None:
            self._found.at_a_batch(self._trainer)

    def through(self) -> None:
        if self._found is not None:
            self._found.through(self._trainer)


@contextmanager
def may_be_broken_off(trainer: pl.Trainer) -> Iterator[Breakable]:
    """For what takes long at the end of a step and changes nothing of the run: a signal inside, or before, ends it, and
    the run that goes on makes up for it in ``on_train_start``.
    """
    callbacks = getattr(trainer, "callbacks")  # noqa: B009  (Lightning sets it outside of the class)
    found = next((c for c in callbacks if isinstance(c, Preemption)), None)
    inside = Breakable(trainer, found)
    if found is None:
        yield inside
        return
    found.begin(trainer, MEASURES)
    try:
        yield inside
        inside.through()
    finally:
        found.end()
