"""A callback for `--trainer.callbacks`: training that takes as long as a test needs it to."""

import time
from pathlib import Path

import lightning.pytorch as pl


class SlowUntil(pl.Callback):
    """A second for every step until the file is there."""

    def __init__(self, *, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if not self.file.exists():
            time.sleep(1)
