"""Photographs that come with scikit-image: real colour images without a download, for methods that need a
single image.
"""

import importlib.util
from pathlib import Path
from typing import Literal

from common.errors import UserError, nearest
from datamodules.base import ImageDataModule
from datamodules.file_store import Files
from datamodules.pictures import CHANNELS, Fit
from datamodules.read_files import read_files
from datamodules.store import ImageSet, ImageStore, everything

# Files inside the installed package (no pooch, no download); the order is the index and is never changed.
COLOUR = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
)
GREY = ("camera.png", "coins.png", "moon.png", "brick.png", "grass.png", "gravel.png")


class NaturalImages(ImageDataModule):
    """Eight colour and six grey photographs of scikit-image, 300x451 to 1411x1411 pixels, or squares of `size`; labels
    are -1.

    For methods that restore one image without other data: training, validation (empty unless asked for) and test
    images are the same set.

    Args:
        mode: "colour" for the colour photographs, "grey" for all fourteen in grey.
        size: side of the middle square after resizing the shorter side to it; None: native sizes, then ``batch_size``
            must be 1.
        names: only these (without ending), None: all.
        split_seed: of the permutation that takes validation and test images out; another value gives another partition
            (default 0).
    """

    def __init__(
        self,
        *,
        mode: Literal["grey", "colour"] = "colour",
        size: int | None = None,
        names: list[str] | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        if size is not None and size < 1:
            raise UserError(f"size must be at least 1 pixel, got {size}")
        if mode not in CHANNELS:
            raise UserError(f"mode must be grey or colour, got '{mode}'")
        files = COLOUR if mode == "colour" else COLOUR + GREY
        stems = {Path(f).stem: f for f in files}
        for name in names or []:
            if name not in stems:
                raise UserError(
                    f"names: there is no {mode} photograph '{name}'{nearest(name, stems)}; choose from "
                    f"{', '.join(stems)}"
                )
        self.mode, self.size = mode, size
        self._rows = [row for row, f in enumerate(files) if names is None or Path(f).stem in names]
        self._names = files
        self._store: ImageStore | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        if self.size is not None:
            return (CHANNELS[self.mode], self.size, self.size)
        images = self._test_images()
        if not images.one_shape:
            raise UserError("the photographs differ in size: give size, or one name")
        return images.shape(0)

    def _training_images(self) -> ImageSet:
        return self._test_images()

    def _test_images(self) -> ImageSet:
        if self._store is None:
            found = importlib.util.find_spec("skimage")
            assert found is not None and found.submodule_search_locations, "requirements.txt has scikit-image"
            folder = Path(found.submodule_search_locations[0]) / "data"
            files = Files.of(folder, [Path(name) for name in self._names]).select(self._rows)
            shape = self.shape if self.size is not None else None
            fit = Fit(shorter=self.size, square=self.size)
            self._store = read_files(
                files,
                mode="grey" if self.mode == "grey" else "colour",
                fit=fit,
                shape=shape,
                memory_limit_mb=self.memory_limit_mb,
                strict=True,
            )
        return everything(self._store)
