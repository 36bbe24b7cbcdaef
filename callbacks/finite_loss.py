"""Stops a run whose loss is no longer a number, before a checkpoint of it is written."""

import math

import lightning.pytorch as pl
from torch import Tensor

from common.errors import UserError


class FiniteLoss(pl.Callback):
    """UserError that names the step where the training loss is NaN or infinite; the last good checkpoint stays.

    every_n_steps: how often the loss is looked at on an accelerator, where a look waits for the device; on a CPU it is every step. Checkpoints are always
    preceded by a look. Must stand before the checkpoint callback in the list, which Lightning ensures.
    """

    def __init__(self, *, every_n_steps: int = 20) -> None:
        self.every_n_steps = max(1, every_n_steps)
        self._loss: Tensor | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: dict, batch: object, batch_idx: int) -> None:
        self._loss = outputs["loss"].detach()
        if self._loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0:
            self._look(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        if self._loss is not None and not math.isfinite(loss := float(self._loss)):
            raise UserError(
                f"the training loss is {loss} at step {trainer.global_step}: lower model.learning_rate or train in 32 bits (--trainer.precision 32-true); "
                f"the last good checkpoint is in {trainer.default_root_dir}/checkpoints"
            )
