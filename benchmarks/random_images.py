"""Images for what is timed: what they show does not change how long they take."""

import torch

from datamodules.base import ImageDataModule
from datamodules.store import ImageSet, MemoryStore, everything


class RandomImages(ImageDataModule):
    """Uniformly random grey levels, the same for every split.

    Args:
        size: [C, H, W]; MNIST's by default.
        count: how many, at least 1.
    """

    def __init__(self, *, size: tuple[int, int, int] = (1, 28, 28), count: int = 512, **options) -> None:
        super().__init__(**options)
        self.size, self.count = tuple(size), count

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.size
        return channels, height, width

    def _training_images(self) -> ImageSet:
        return self._test_images()

    def _test_images(self) -> ImageSet:
        drawn = torch.randint(
            0, 256, (self.count, *self.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        return everything(MemoryStore(drawn))
