"""Averages the weights during training and looks through the average in validation, test and prediction."""

import lightning.pytorch as pl
import torch

from common.averaging import ExponentialAverage, decay_of
from common.errors import UserError


class EMA(pl.Callback):
    """theta_bar <- d theta_bar + (1 - d) theta after every optimiser step, d = 0.5^(images per step / h), h = min(half_life_images, ramp * images seen).

    Own instead of Lightning's WeightAveraging: that one stores raw and averaged weights swapped when a checkpoint is written during validation, copies the
    whole module and updates tensor by tensor.

    enabled: false trains, validates and saves raw weights only. half_life_images: half-life of the average in images (Ho's decay 0.9999 at batch 128 is
    887,000). ramp: share of the images seen that the half-life may not exceed, null for none.
    """

    def __init__(self, *, enabled: bool = True, half_life_images: float = 500_000, ramp: float | None = 0.05) -> None:
        if half_life_images <= 0 or (ramp is not None and ramp <= 0):
            raise UserError(f"ema.half_life_images and ema.ramp must be positive, got {half_life_images} and {ramp}")
        self.enabled, self.half_life_images, self.ramp = enabled, half_life_images, ramp
        self._updated_step = -1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Here, before a checkpoint is restored into it; the module carries it into and out of checkpoints.
        if self.enabled and pl_module.average is None:
            pl_module.average = ExponentialAverage(pl_module.network)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._updated_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int) -> None:
        if not self.enabled or trainer.global_step == self._updated_step:  # gradients are still being accumulated
            return
        seen_per_step = len(batch.image) * trainer.world_size * trainer.accumulate_grad_batches
        decay = decay_of(seen_per_step, pl_module.images_seen, half_life_images=self.half_life_images, ramp=self.ramp)
        pl_module.average.update(decay)
        self._updated_step = trainer.global_step

    def _enter(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.enabled and not pl_module.average.is_swapped:
            pl_module.average.swap()

    def _leave(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.enabled and pl_module.average.is_swapped:
            pl_module.average.swap()

    on_validation_start = on_test_start = on_predict_start = _enter
    on_validation_end = on_test_end = on_predict_end = _leave

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if pl_module.average is not None:
            with torch.no_grad():
                self._leave(trainer, pl_module)
