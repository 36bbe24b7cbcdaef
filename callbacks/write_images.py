"""Writes what `train.py predict` draws: one 8-bit PNG an image, and a grid of the first ones."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from PIL import Image
from torch import Tensor

from common.files import write_atomically
from common.pictures import as_picture, grid, png_bytes
from lightning_modules.prior import PriorModule


class WriteImages(pl.Callback):
    """<folder>/<index>.png for every image, and <folder>/grid.png with at most `grid_images` of them.

    Index k is the same picture for the same seed, whatever the batch size or the number of processes.

    Args:
        folder: where the pictures go; made where it is not there.
        grid_images: how many of the first images the grid shows (default 100).
    """

    def __init__(self, folder: str | Path, *, grid_images: int = 100) -> None:
        self.folder, self.grid_images = Path(folder), grid_images

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: tuple[Tensor, Tensor],
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for index, image in zip(outputs[0].tolist(), outputs[1], strict=True):
            write_atomically(self.folder / f"{index:06d}.png", png_bytes(as_picture(image)))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            # From the files: every process has written its own, and the grid shows what is really there.
            files = sorted(self.folder.glob("[0-9]*.png"))[: self.grid_images]
            channels = pl_module.data_shape[0]
            images = torch.stack([_read(f, channels) for f in files])
            write_atomically(self.folder / "grid.png", png_bytes(grid(images)))


def _read(path: Path, channels: int) -> Tensor:
    with Image.open(path) as picture:
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(
            picture.height, picture.width, channels
        )
    return pixels.permute(2, 0, 1).float() / 127.5 - 1
