"""Some images of a data set, damaged, to be restored one by one: the truth is known."""

from torch.nn import functional as F

from common.batch import Batch
from common.errors import UserError
from common.image_range import to_float
from datamodules.base import ImageDataModule, Split
from datamodules.restoration_data import Item, RestorationData


class DegradedImages(RestorationData):
    """y = A x + n for images x of a data set; random numbers are keyed by the image's index in the data set.

    Args:
        source: the data set.
        split: part of the data set: "train", "validation" or "test".
        rows: positions in that part; null: the first `count`.
        count: how many of the first images, where `rows` is null (default 4: every one is fitted by itself).
        size: the shorter side in pixels that images are resized to; null: as they are.

    Raises:
        UserError: rows that are not there.
    """

    def __init__(
        self,
        *,
        source: ImageDataModule,
        split: Split = "test",
        rows: list[int] | None = None,
        count: int = 4,
        size: int | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        if split not in ("train", "validation", "test"):
            raise UserError(f"split must be train, validation or test, got '{split}'")
        if count < 1 or (size is not None and size < 1) or rows == []:
            raise UserError(f"count and size must be at least 1 and rows not empty, got {count}, {size} and {rows}")
        self.split: Split = split
        self.source, self.rows, self.count, self.size = source, rows, count, size

    def _read(self) -> list[Item]:
        self.source.prepare_data()
        images = self.source.images(self.split)
        rows = self.rows if self.rows is not None else list(range(min(self.count, len(images))))
        if not rows or min(rows) < 0 or max(rows) >= len(images):
            raise UserError(
                f"data.rows: the {self.split} part of {type(self.source).__name__} has {len(images)} images "
                f"(rows from 0), got {rows}"
            )
        if len(set(rows)) < len(rows):
            raise UserError(f"data.rows must be different, got {rows}")
        return [self._item(images.get([row]), f"{row:05d}") for row in rows]

    def _item(self, batch: Batch, name: str) -> Item:
        x = to_float(batch.image)
        if self.size is not None:
            scale = self.size / min(x.shape[2:])
            sides = [max(self.size, round(side * scale)) for side in x.shape[2:]]
            x = F.interpolate(x, size=sides, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        return Item(name=name, index=int(batch.index[0]), image=x[0])
