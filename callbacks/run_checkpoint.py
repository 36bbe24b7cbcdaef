"""last.ckpt in the run folder, whole at any moment; milestones where they are wanted."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from checkpoints.files import read_checkpoint_file
from common.errors import UserError
from common.files import write_atomically


class RunCheckpoint(Checkpoint):
    """Writes checkpoints/last.ckpt every `every_n_steps` optimiser steps and at the end; every `keep_every_n_steps`
    also checkpoints/step_<step>.ckpt.

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
        self._saved_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._saved_step:
            return
        folder = Path(trainer.default_root_dir) / "checkpoints"
        if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
            trainer.save_checkpoint(folder / f"step_{step:07d}.ckpt")
        if step % self.every_n_steps == 0:
            self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved_step:
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
        self._saved_step = trainer.global_step


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is whole or absent: Lightning's own writer moves from the system's temporary folder, which is a copy
    across file systems.

    Reading is restricted to tensors and plain values, with one sentence for a file that cannot be read.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_atomically(path, lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint_file(Path(path))
