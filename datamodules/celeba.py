"""CelebA: aligned faces (Liu, Luo, Wang, Tang 2015), at full or at half size, cropped to the face."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from common.errors import UserError
from datamodules.base import ImageDataModule
from datamodules.download import fetch
from datamodules.file_store import Files
from datamodules.pictures import find_pictures
from datamodules.read_files import read_files
from datamodules.split import held_out_by_name, held_out_rows
from datamodules.store import ImageSet, ImageStore

LAST_TRAINING, LAST_VALIDATION = 162770, 182637  # the official partition, by the number in the file name

# (left, upper, right, lower) by (width, height). At full size the box of the published 64x64 diffusion models: 128x128
# about the point (89, 121). At half size the same box in whole pixels (its exact half is 12.5, 28.5, 76.5, 92.5): 64x64
# without any resampling.
BOXES = {(178, 218): (25, 57, 153, 185), (89, 109): (12, 28, 76, 92)}


@dataclass(frozen=True)
class FaceCrop:
    """The face's square of a CelebA picture, resized to `size` without aliasing (bicubic); not touched where it has
    that size.
    """

    size: int

    def __call__(self, picture: Image.Image) -> Image.Image:
        box = BOXES.get(picture.size)
        if box is None:
            size = f"{picture.width}x{picture.height}"
            raise ValueError(f"it has {size} pixels; aligned CelebA pictures have 178x218, or 89x109 at half size")
        face = picture.crop(box)
        return (
            face
            if face.size == (self.size, self.size)
            else face.resize((self.size, self.size), Image.Resampling.BICUBIC)
        )


class CelebA(ImageDataModule):
    """Faces [3, size, size] without labels (-1); the index is the number in the file name (000001.jpg has index 1).

    Files: ``DATA_DIR/celeba/img_align_celeba/*.jpg`` (torchvision), or the same folder without ``celeba/``, or
    nested once more. The official partition is taken from ``list_eval_partition.txt`` or ``.csv`` beside it; without
    it, from the official numbers where pictures of all three parts are there (validation from 162771, test from
    182638); else a tenth of the pictures, always the same, is the test set.

    Args:
        size: side in pixels. Pictures at half size have no detail beyond 64.
        validation: how many images to hold out: of the official validation part where there is one (of which nothing is
            trained on), else of the training images.
        strict: stop at a broken file, which otherwise is named in a warning and left out.
        download: needs the package gdown.
        split_seed: of the permutation that takes validation images out of the training images, where there is no
            official validation part.
    """

    def __init__(
        self,
        *,
        size: int = 64,
        validation: int = 200,
        horizontal_flip: bool = True,
        strict: bool = False,
        download: bool = True,
        **options,
    ) -> None:
        super().__init__(validation=validation, horizontal_flip=horizontal_flip, **options)
        if size < 1:
            raise UserError(f"size must be at least 1 pixel, got {size}")
        self.size, self.strict, self.download = size, strict, download
        self._store: ImageStore | None = None
        self._official: dict[str, torch.Tensor] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def prepare_data(self) -> None:
        """Fetch the files where they are missing and gdown is installed; UserError that names them where that is not
        possible.
        """
        if self._folder() is None:
            if not self.download:
                raise UserError(self._missing())
            fetch(self._download, data_dir=self.data_dir, wanted=f"{self._missing()}; the pictures were")

    def _download(self) -> None:
        from torchvision.datasets import CelebA as TorchvisionCelebA

        TorchvisionCelebA(self.data_dir, split="all", download=True)

    def _training_images(self) -> ImageSet:
        return ImageSet(self._read(), self._parts()["train"])

    def _test_images(self) -> ImageSet:
        return ImageSet(self._read(), self._parts()["test"])

    def _split(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        official = self._parts()["validation"]
        if len(official) == 0:
            return super()._split(images)
        if self.validation > len(official):
            raise UserError(
                f"validation must be at most the official validation part ({len(official)} images), got "
                f"{self.validation}"
            )
        held_out, _ = held_out_rows(len(official), self.validation, self.split_seed, "validation split")
        return ImageSet(images.store, images.positions[: self.limit]), ImageSet(images.store, official[held_out])

    def _parts(self) -> dict[str, torch.Tensor]:
        """Positions of the train, validation and test part; validation is empty where there is no official
        partition.
        """
        if self._official is None:
            store = self._read()
            folder = self._folder()
            part = None if folder is None else _listed_partition(folder, store)
            if part is None and int(store.index.min()) <= LAST_TRAINING and int(store.index.max()) > LAST_VALIDATION:
                part = (store.index > LAST_TRAINING).long() + (store.index > LAST_VALIDATION).long()
            if part is not None and len(part.unique()) == 3:
                train, validation, test = (torch.nonzero(part == p).flatten() for p in range(3))
            else:
                test, train = held_out_by_name([f"{i:06d}" for i in store.index.tolist()], max(1, len(store) // 10))
                validation = torch.empty(0, dtype=torch.int64)
            self._official = {"train": train, "validation": validation, "test": test}
        return self._official

    def _read(self) -> ImageStore:
        if self._store is None:
            folder = self._folder()
            if folder is None:
                raise UserError(self._missing())
            found = [path for path in find_pictures(folder) if path.stem.isdecimal()]
            if not found:
                raise UserError(
                    f"'{folder}' has no pictures with a number as name (000001.jpg ...): put CelebA's aligned "
                    f"pictures there"
                )
            number = torch.tensor([int(path.stem) for path in found])
            if len(number.unique()) != len(number):
                raise UserError(
                    f"'{folder}' has several pictures with the same number: leave one of each, 000001.jpg to 202599.jpg"
                )
            files = Files(folder, found, number, torch.full_like(number, -1))
            options = {"memory_limit_mb": self.memory_limit_mb, "strict": self.strict}
            self._store = read_files(files, mode="colour", fit=FaceCrop(self.size), shape=self.shape, **options)
        return self._store

    def _folder(self) -> Path | None:
        """The folder of the pictures, or None."""
        names = ("celeba/img_align_celeba", "img_align_celeba", "celeba")
        candidates = [self.data_dir / n / deeper for n in names for deeper in ("img_align_celeba", "")]
        return next((p for p in candidates if p.is_dir() and any(p.glob("[0-9]*.*"))), None)

    def _missing(self) -> str:
        where = self.data_dir / "celeba" / "img_align_celeba"
        return (
            f"CelebA: put 000001.jpg ... into '{where}' (and list_eval_partition.txt beside it), or set "
            f"data_dir or DATA_DIR"
        )


def _listed_partition(folder: Path, store: ImageStore) -> torch.Tensor | None:
    """0, 1 or 2 for every image of the store by the official list, or None where there is no list."""
    places = [
        parent / f"list_eval_partition.{ending}"
        for parent in (folder, *list(folder.parents)[:2])
        for ending in ("txt", "csv")
    ]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        return None
    part = {}
    for line in path.read_text().splitlines():
        name, _, value = line.replace(",", " ").strip().partition(" ")
        if value.strip() in ("0", "1", "2"):  # not the heading of the .csv
            part[int(Path(name).stem)] = int(value)
    absent = [i for i in store.index.tolist() if i not in part]
    if absent:
        raise UserError(f"'{path}' says nothing about picture {absent[0]:06d}: fetch the list again, or remove it")
    return torch.tensor([part[i] for i in store.index.tolist()])
