"""last.ckpt in the run folder, whole at any moment; milestones where they are wanted."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from callbacks.metrics_csv import MetricsCSV
from callbacks.step_end import StepEnd, as_at_a_step_end
from checkpoints.files import read_checkpoint_file
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

    Args:
        every_n_steps: optimiser steps between two writings of last.ckpt: what a killed run loses at most (default 500).
        keep_every_n_steps: optimiser steps between two milestones that stay; null (default): none.
    """

    def __init__(self, *, every_n_steps: int = 500, keep_every_n_steps: int | None = None) -> None:
        if every_n_steps < 1 or (keep_every_n_steps is not None and keep_every_n_steps < 1):
            raise UserError(
                f"checkpoint.every_n_steps and keep_every_n_steps must be at least 1, got {every_n_steps} and"
                f" {keep_every_n_steps}"
            )
        self.every_n_steps, self.keep_every_n_steps = every_n_steps, keep_every_n_steps
        self._started, self._saved = -1, (-1, 0)  # step, rows of metrics.csv

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started = trainer.global_step

    @property
    def saved_step(self) -> int:
        """The step of the newest last.ckpt that was written here, -1 where none was."""
        return self._saved[0]

    def on_step_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
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

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
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
    return next((logger.count for logger in trainer.loggers if isinstance(logger, MetricsCSV)), 0)


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is whole or absent: Lightning's own writer moves from the system's temporary folder, which is a copy
    across file systems.

    Reading is restricted to tensors and plain values, with one sentence for a file that cannot be read.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        keep = path.with_name(Path(PREVIOUS).name) if path.name == Path(LAST).name else None
        write_atomically(path, lambda file: torch.save(checkpoint, file), keep=keep)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint_file(Path(path))
