"""Survives pre-emption: on SIGTERM, SIGUSR1 or Ctrl-C the run saves between two steps and leaves with an exit code that
says so.
"""

import json
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from common.errors import EXIT_PREEMPTED
from common.files import write_atomically
from common.private_names import leave_out_the_sigterm_broadcast
from common.run_folder import PREEMPTED

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(SystemExit):
    """The run was stopped from outside and can go on."""


class Preemption(pl.Callback):
    """The handlers set a flag; at the end of the step all processes agree, last.ckpt is written, and the process exits
    with 75 (130 after Ctrl-C).

    It replaces Lightning's handlers, which save wherever Python happens to be (perhaps in mid-validation) and let
    SIGTERM exit with 0, so that a cluster books the job as completed. A second signal of Ctrl-C stops at once.

    Args:
        every_n_steps: how often several processes ask each other (one process: every step).
    """

    def __init__(self, *, every_n_steps: int = 10) -> None:
        self.every_n_steps = max(1, every_n_steps)
        self._signal: int | None = None
        self._stepped = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stepped = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._remember) for s in SIGNALS}
            leave_out_the_sigterm_broadcast(trainer)  # of Lightning's handler, which was just replaced

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self._stepped:  # gradients are still being accumulated, and no checkpoint has them
            return
        self._stepped = trainer.global_step
        stop = self._signal is not None
        if trainer.world_size > 1:
            if trainer.global_step % self.every_n_steps:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if not stop:
            return
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
        if trainer.is_global_zero:
            write_atomically(Path(trainer.default_root_dir) / PREEMPTED, json.dumps({"step": trainer.global_step}))
            print(f"stopped at step {trainer.global_step}, saved; run the same command again to go on", flush=True)
        strategy: Any = trainer.strategy  # of several processes: it has a cluster environment
        if trainer.global_rank and not strategy.cluster_environment.creates_processes_externally:
            # Lightning kills the first process, which may still be writing, as soon as one that it started fails
            raise Preempted(0)
        raise Preempted(130 if self._signal == signal.SIGINT else EXIT_PREEMPTED)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()
