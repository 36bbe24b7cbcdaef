"""Handwritten digits that come with scikit-learn: real images without a download."""

from typing import Any

import torch

from datamodules.base import ImageDataModule
from datamodules.split import held_out_rows
from datamodules.store import ImageSet, MemoryStore

TEST_IMAGES = 360
_SPLIT_SEED = 1797  # of the test split alone: no option changes it, so that no run trains on what another one tests


class Digits(ImageDataModule):
    """1,797 digits, [1, 8, 8], labels 0..9, 17 grey levels p = round(255 v / 16); the index is scikit-learn's.

    There is no official split: 360 images, always the same ones, are the test set; `validation` images are held out of
    the other 1,437. (The writers are not known, so that one writer may be in several parts.) Source: Alpaydin and
    Kaynak 1998, "Optical recognition of handwritten digits", UCI.
    """

    def __init__(self, *, validation: int = 137, **options) -> None:
        super().__init__(validation=validation, **options)
        self._store: MemoryStore | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 8, 8)

    def _training_images(self) -> ImageSet:
        return ImageSet(self._read(), held_out_rows(1797, TEST_IMAGES, _SPLIT_SEED, "test split")[1])

    def _test_images(self) -> ImageSet:
        return ImageSet(self._read(), held_out_rows(1797, TEST_IMAGES, _SPLIT_SEED, "test split")[0])

    def _read(self) -> MemoryStore:
        if self._store is None:
            from sklearn.datasets import load_digits

            bunch: Any = load_digits()
            pixels = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
            self._store = MemoryStore(pixels, label=torch.from_numpy(bunch.target).long())
        return self._store
