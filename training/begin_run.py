"""The moment from which a training run exists: after everything that can be refused was looked at."""

from collections.abc import Callable

import lightning.pytorch as pl


class BeginRun(pl.Callback):
    """Calls `begin` when data, callbacks and network have been set up, and before the first step.

    Args:
        begin: what makes the run folder and the logs, given the trainer.
    """

    def __init__(self, begin: Callable[[pl.Trainer], None]) -> None:
        self._begin = begin

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer)
