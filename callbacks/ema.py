"""Averages the weights during training and looks through the average in validation, test and prediction."""

from pathlib import Path
from typing import Any, Literal, cast

import lightning.pytorch as pl
import torch

from checkpoints.snapshots import SNAPSHOT_DTYPES, Snapshot, discard_snapshots_after, snapshot_path, write_snapshot
from common.averaging import WeightAverage, decay_of
from common.batch import Batch
from common.errors import UserError
from common.power_profile import gamma_of, power_decay
from lightning_modules.run_module import RunModule


class EMA(pl.Callback):
    """theta_bar <- d theta_bar + (1 - d) theta after every optimiser step.

    Own instead of Lightning's WeightAveraging: that one stores raw and averaged weights swapped when a checkpoint is
    written during validation, copies the whole module and updates tensor by tensor.

    Source of "power": Karras et al. 2024 (2312.02696), section 3; docs/theory/power_ema.md.

    Args:
        enabled: false trains, validates and saves raw weights only.
        profile: "exponential": d = 0.5^(images per step / h), h = min(half_life_images, ramp * images seen); "power": d
            = (1 - images per step / images seen)^(gamma + 1), an average whose width is a fixed share of training,
            whatever its length, without warm-up.
        half_life_images: half-life of the average in images (Ho's decay 0.9999 at batch 128 is 887,000).
        ramp: share of the images seen that the half-life may not exceed, null for none.
        widths: relative standard deviations of the averages that are kept; the first is looked through and saved as
            "ema".
        snapshot_every_n_images: with "power", write every average to <run>/ema/ that often and at the end, from which
            ``python -m checkpoints.power_ema`` makes any other width after training; null for none.
        snapshot_dtype: precision of these files.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        profile: Literal["exponential", "power"] = "exponential",
        half_life_images: float = 500_000,
        ramp: float | None = 0.05,
        widths: tuple[float, ...] = (0.05, 0.10),
        snapshot_every_n_images: int | None = None,
        snapshot_dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        if half_life_images <= 0 or (ramp is not None and ramp <= 0):
            raise UserError(f"ema.half_life_images and ema.ramp must be positive, got {half_life_images} and {ramp}")
        if profile not in ("exponential", "power"):
            raise UserError(f"ema.profile must be exponential or power, got '{profile}'")
        if not widths or len(set(widths)) != len(widths):
            raise UserError(f"ema.widths must be one or more different numbers, got {list(widths)}")
        if snapshot_every_n_images is not None and (snapshot_every_n_images < 1 or profile != "power" or not enabled):
            raise UserError(
                "ema.snapshot_every_n_images must be at least 1, with ema.enabled true and ema.profile power, "
                f"got {snapshot_every_n_images}, {enabled} and {profile}"
            )
        if snapshot_dtype not in SNAPSHOT_DTYPES:
            raise UserError(f"ema.snapshot_dtype must be one of {', '.join(SNAPSHOT_DTYPES)}, got '{snapshot_dtype}'")
        self.enabled, self.profile, self.half_life_images, self.ramp = enabled, profile, half_life_images, ramp
        try:
            self.widths = {float(w): gamma_of(w) for w in widths} if profile == "power" else {}
        except ValueError as error:
            raise UserError(f"ema.widths: {error}") from error
        self.snapshot_every_n_images, self.snapshot_dtype = snapshot_every_n_images, snapshot_dtype
        self._updated_step = self._updated_images = -1
        self._written_step = -1

    def setup(self, trainer: pl.Trainer, pl_module: RunModule, stage: str) -> None:
        # Here, before a checkpoint is restored into it; the module carries it into and out of checkpoints.
        if not pl_module.averaged and self.snapshot_every_n_images is not None:
            raise UserError(
                f"ema.snapshot_every_n_images is given, and model is a {type(pl_module).__name__}, whose weights are"
                " not averaged: leave it out"
            )
        self.enabled = self.enabled and pl_module.averaged
        if self.enabled and pl_module.average is None:
            names = [f"power average of width {w:g}" for w in self.widths] or (None,)
            pl_module.average = WeightAverage(pl_module.network, names)

    def on_train_start(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._updated_step = trainer.global_step
        if self._updated_images < 0:
            self._updated_images = pl_module.images_seen
        if self.snapshot_every_n_images is not None and trainer.is_global_zero:
            # Of steps that are done again, or of a run that was begun anew: they would be mixed with this run's.
            discard_snapshots_after(Path(trainer.default_root_dir) / "ema", pl_module.images_seen)

    def state_dict(self) -> dict[str, int]:
        # A checkpoint may be written inside an accumulation of gradients, when images were seen that no update has
        # counted.
        return {"updated_images": self._updated_images}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._updated_images = state_dict["updated_images"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: RunModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if not self.enabled or trainer.global_step == self._updated_step:  # gradients are still being accumulated
            return
        seen = pl_module.images_seen
        if self.profile == "power":
            # What was really seen since the last update: an epoch may end inside an accumulation, and the weights of
            # the profile must add up.
            _average(pl_module).update(
                *(power_decay(seen - self._updated_images, seen, gamma) for gamma in self.widths.values())
            )
        else:
            seen_per_step = len(batch.image) * trainer.world_size * trainer.accumulate_grad_batches
            _average(pl_module).update(
                decay_of(seen_per_step, seen, half_life_images=self.half_life_images, ramp=self.ramp)
            )
        every, before = self.snapshot_every_n_images, self._updated_images
        self._updated_step, self._updated_images = trainer.global_step, seen
        if every is not None and seen // every > before // every:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        if self.snapshot_every_n_images is not None and trainer.global_step > max(0, self._written_step):
            self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._written_step = trainer.global_step
        data = (
            type(getattr(trainer, "datamodule", None)).__name__ if getattr(trainer, "datamodule", None) else "unknown"
        )
        for which, (width, gamma) in enumerate(self.widths.items()):
            weights = _average(pl_module).weights(which)  # all processes must come
            if not trainer.is_global_zero:
                continue
            snapshot = Snapshot(width=width, gamma=gamma, images=pl_module.images_seen, step=trainer.global_step)
            path = snapshot_path(Path(trainer.default_root_dir) / "ema", snapshot)
            write_snapshot(
                path,
                snapshot,
                weights,
                cast(Any, pl_module).descriptions(data),  # a TrainedModule: no other one is averaged
                dtype=self.snapshot_dtype,
            )

    def _enter(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        pl_module.look_through_average()

    def _leave(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        pl_module.look_no_more()

    on_validation_start = on_test_start = on_predict_start = _enter  # pyright: ignore[reportAssignmentType]
    on_validation_end = on_test_end = on_predict_end = _leave  # pyright: ignore[reportAssignmentType]

    def on_exception(self, trainer: pl.Trainer, pl_module: RunModule, exception: BaseException) -> None:
        with torch.no_grad():
            self._leave(trainer, pl_module)


def _average(module: RunModule) -> WeightAverage:
    assert module.average is not None, "setup makes it before anything asks for it"
    return module.average
