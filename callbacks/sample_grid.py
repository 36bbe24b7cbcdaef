"""Draws a grid of images from the averaged prior during training, into the run folder and the logger."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import WandbLogger

from common.errors import UserError
from common.files import write_atomically
from common.pictures import grid, png_bytes
from lightning_modules.prior import PriorModule


class SampleGrid(pl.Callback):
    """After every `every`-th validation: `count` images, the same noise each time, as samples/step_<step>.png.

    Args:
        count: number of images, 0 for none.
        every: validations between two grids.
        batch_size: images drawn at once.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, *, count: int = 36, every: int = 1, batch_size: int = 64) -> None:
        for name, value, least in (("count", count, 0), ("every", every, 1), ("batch_size", batch_size, 1)):
            if value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        self.count, self.every, self.batch_size = count, every, batch_size
        self._validations, self._counted_step = 0, -1

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        # Between the start and the end of validation the network holds its average.
        if (
            trainer.sanity_checking
            or trainer.state.fn != "fit"
            or not self.count
            or not isinstance(pl_module, PriorModule)
        ):
            return
        if trainer.global_step != self._counted_step:  # else it was broken off, and is done again
            self._validations, self._counted_step = self._validations + 1, trainer.global_step
        if (self._validations - 1) % self.every or not trainer.is_global_zero:
            return
        with trainer.precision_plugin.val_step_context():
            images, columns = pl_module.samples(self.count, self.batch_size)
        picture = grid(images.float().cpu(), columns=columns)
        write_atomically(
            Path(trainer.default_root_dir) / "samples" / f"step_{trainer.global_step:07d}.png", png_bytes(picture)
        )
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(
                    "samples", [picture], step=trainer.global_step, caption=[f"{pl_module.images_seen} images seen"]
                )

    def state_dict(self) -> dict[str, int]:
        return {"validations": self._validations, "counted_step": self._counted_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._validations, self._counted_step = state_dict["validations"], state_dict.get("counted_step", -1)
