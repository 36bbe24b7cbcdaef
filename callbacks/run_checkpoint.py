"""last.ckpt in the run folder, whole at any moment; milestones where they are wanted."""

import contextlib
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from callbacks.metrics_csv import MetricsCSV
from callbacks.step_end import StepEnd, as_at_a_step_end
from checkpoints.files import read_checkpoint_file
from common.background import BackgroundWriter, bytes_of, copied_to_host
from common.errors import UserError
from common.files import write_atomically
from common.run_folder import LAST, PREVIOUS


class RunCheckpoint(StepEnd, Checkpoint):
    """Writes checkpoints/last.ckpt every `every_n_steps` optimiser steps and at the end; every `keep_every_n_steps`
    also checkpoints/step_<step>.ckpt. What last.ckpt was before is previous.ckpt.

    Written when a step is over, its validation and its measurements included, so that a run that is killed has lost
    whole steps, which are done again, and nothing else.

    Own instead of Lightning's ModelCheckpoint, which writes nothing at the end of a run whose last step is not a
    multiple, and knows no milestones beside a single `last`.

    A large one is copied in memory and written beside training, one at a time; until it is whole, the one before is
    last.ckpt. A disk that fails ends the run at the end of a step. At the end of the run, and when it is stopped, it is
    waited for.

    Args:
        every_n_steps: optimiser steps between two writings of last.ckpt: what a killed run loses at most (default 500).
        keep_every_n_steps: optimiser steps between two milestones that stay; null (default): none.
        beside_training_mb: from so many megabytes on a checkpoint is written beside training (default 64), which needs
            as much of the host's memory again; null: never.
    """

    def __init__(
        self,
        *,
        every_n_steps: int = 500,
        keep_every_n_steps: int | None = None,
        beside_training_mb: float | None = 64.0,
    ) -> None:
        if every_n_steps < 1 or (keep_every_n_steps is not None and keep_every_n_steps < 1):
            raise UserError(
                f"checkpoint.every_n_steps and keep_every_n_steps must be at least 1, got {every_n_steps} and"
                f" {keep_every_n_steps}"
            )
        if beside_training_mb is not None and beside_training_mb < 0:
            raise UserError(f"checkpoint.beside_training_mb must be at least 0, or null, got {beside_training_mb}")
        self.every_n_steps, self.keep_every_n_steps = every_n_steps, keep_every_n_steps
        self.beside_training_mb = beside_training_mb
        self._started, self._saved = -1, (-1, 0)  # step, rows of metrics.csv

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if (files := files_of(trainer)) is not None and self.beside_training_mb is not None:
            files.beside_from = int(self.beside_training_mb * 2**20)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started = trainer.global_step

    @property
    def saved_step(self) -> int:
        """The step of the newest last.ckpt that was written here, -1 where none was."""
        return self._saved[0]

    def on_step_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        if (files := files_of(trainer)) is not None:
            files.writer.check()
        with as_at_a_step_end(trainer):
            self.save_milestone(trainer)
            if step % self.every_n_steps == 0 or step == trainer.max_steps or trainer.should_stop:
                self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last step, where its end did not save it, and what others have logged after it."""
        wanted = trainer.global_step != self._started and self._saved != (trainer.global_step, _rows(trainer))
        if trainer.world_size > 1:  # only the first process has rows, and all must come to save
            wanted = trainer.strategy.reduce_boolean_decision(wanted, all=False)
        if wanted:
            self._save_last(trainer)
        wait_for_files(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Exception):  # Ctrl-C waits for nothing; what is stopped has waited
            with contextlib.suppress(Exception):  # the exception that came first is told
                wait_for_files(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for log in _logs(trainer):
            log.check()
        checkpoint["metrics_rows"] = _rows(trainer)
        # trainer.max_time counts from the start of a command: kept, it would end the next one at once
        checkpoint["callbacks"].pop("Timer", None)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint.get("callbacks", {}).pop("Timer", None)  # of a run of before

    def save_milestone(self, trainer: pl.Trainer) -> None:
        """step_<step>.ckpt where one is due."""
        step = trainer.global_step
        if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST.replace("last", f"step_{step:07d}"))

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
        self._saved = (trainer.global_step, _rows(trainer))


def _rows(trainer: pl.Trainer) -> int:
    """Rows of metrics.csv: the first process writes it, and the checkpoint."""
    return sum(log.count for log in _logs(trainer))


def _logs(trainer: pl.Trainer) -> list[MetricsCSV]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsCSV)]


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is whole or absent: Lightning's own writer moves from the system's temporary folder, which is a copy
    across file systems.

    One of at least `beside_from` bytes is written by `writer`, from a copy; Lightning's AsyncCheckpointIO copies memory
    that is shared several times, tells an error at the next checkpoint or never, and cannot be waited for. Reading is
    restricted to tensors and plain values, with one sentence for a file that cannot be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writer = BackgroundWriter()
        self.beside_from: int | None = None  # callbacks say

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        keep = path.with_name(Path(PREVIOUS).name) if path.name == Path(LAST).name else None
        self.writer.wait()  # in the order in which they were asked for
        if self.beside_from is None or bytes_of(checkpoint) < self.beside_from:
            _write(checkpoint, path, keep)
            return
        copy = copied_to_host(checkpoint)
        self.writer.begin(lambda: _write(copy, path, keep))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.writer.wait()
        return read_checkpoint_file(Path(path))

    def teardown(self) -> None:
        self.writer.wait()


def files_of(trainer: pl.Trainer) -> AtomicCheckpointIO | None:
    """Of this trainer, where it has one."""
    files: Any = trainer.strategy.checkpoint_io
    return files if isinstance(files, AtomicCheckpointIO) else None


def wait_for_files(trainer: pl.Trainer) -> None:
    """Until the checkpoints that were asked for are on the disk; the error of a disk that failed."""
    if (files := files_of(trainer)) is not None:
        files.writer.wait()


def _write(checkpoint: dict[str, Any], path: Path, keep: Path | None) -> None:
    write_atomically(path, lambda file: torch.save(checkpoint, file), keep=keep)
