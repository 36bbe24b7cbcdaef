"""A callback for `--trainer.callbacks`: training that takes as long as a test needs it to."""

import time
from pathlib import Path

import lightning.pytorch as pl


class SlowUntil(pl.Callback):
    """A second for every step, and so many for every batch of a validation, until the file is there."""

    def __init__(self, *, file: str, validation: float = 0.0) -> None:
        self.file, self.validation = Path(file), validation

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self._wait(0.0 if self.validation else 1.0)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._wait(self.validation)

    def _wait(self, seconds: float) -> None:
        if not self.file.exists():
            time.sleep(seconds)
