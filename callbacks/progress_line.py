"""Progress for machines: one line per interval with step, time left, images seen, throughput and how long was waited
for data.
"""

import time

import lightning.pytorch as pl

from lightning_modules.run_module import RunModule


class ProgressLine(pl.Callback):
    """Where there is no terminal (a job's log file) the bar is replaced by a line every `every_seconds`.

    images/s is since the line before; the time left is reckoned from the whole of this process. The share of time in
    which data were waited for is the newest that callbacks/health.py logged.

    Args:
        every_seconds: wall-clock seconds between two lines (default 30: a job of a day writes 3,000).
    """

    def __init__(self, *, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self._began = self._last = 0.0
        self._first_step = self._last_images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._began = self._last = time.monotonic()
        self._first_step, self._last_images = trainer.global_step, pl_module.images_seen

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: RunModule, outputs: dict, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if (
            now - self._last < self.every_seconds
            or not trainer.is_global_zero
            or trainer.progress_bar_callback is not None
        ):
            return
        speed = (pl_module.images_seen - self._last_images) / (now - self._last)
        self._last, self._last_images = now, pl_module.images_seen
        steps = trainer.global_step - self._first_step
        left = (
            f", {(now - self._began) / steps * (trainer.max_steps - trainer.global_step) / 60:.1f} min left"
            if trainer.max_steps > 0 and steps
            else ""
        )
        waited = trainer.callback_metrics.get("throughput/data_wait_share")
        share = f" ({float(waited):.0%} waiting for data)" if waited is not None else ""
        loss = float(outputs["loss"])
        print(
            f"step {trainer.global_step}, {pl_module.images_seen} images, loss {loss:.4f}, {speed:.0f}"
            f" images/s{share}{left}",
            flush=True,
        )
