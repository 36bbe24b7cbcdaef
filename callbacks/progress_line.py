"""Progress for machines: one line per interval with step, time left, images seen and throughput."""

import time

import lightning.pytorch as pl


class ProgressLine(pl.Callback):
    """Where there is no terminal (a job's log file) the bar is replaced by a line every `every_seconds`."""

    def __init__(self, *, every_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self._began = self._last = 0.0
        self._first_step = self._first_images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = self._last = time.monotonic()
        self._first_step, self._first_images = trainer.global_step, pl_module.images_seen

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: dict, batch: object, batch_idx: int) -> None:
        now = time.monotonic()
        if now - self._last < self.every_seconds or not trainer.is_global_zero or trainer.progress_bar_callback is not None:
            return
        self._last = now
        elapsed, steps = now - self._began, trainer.global_step - self._first_step
        speed = (pl_module.images_seen - self._first_images) / elapsed
        left = f", {elapsed / steps * (trainer.max_steps - trainer.global_step) / 60:.1f} min left" if trainer.max_steps > 0 and steps else ""
        loss = float(outputs["loss"])
        print(f"step {trainer.global_step}, {pl_module.images_seen} images, loss {loss:.4f}, {speed:.0f} images/s{left}", flush=True)
