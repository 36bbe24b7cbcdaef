"""CIFAR-10: colour pictures of ten classes, 32x32 (Krizhevsky 2009), in torchvision's layout or as a
folder per class.
"""

from pathlib import Path

import torch

from common.errors import UserError, nearest
from datamodules.base import ImageDataModule
from datamodules.download import fetch
from datamodules.file_store import Files
from datamodules.pictures import find_pictures
from datamodules.read_files import read_files
from datamodules.store import ImageSet, MemoryStore, everything

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR10(ImageDataModule):
    """Images [3, 32, 32], labels 0..9 in the canonical order of the classes; training and test set are the official
    ones.

    Files, the first that is there: ``DATA_DIR/cifar-10-batches-py`` (torchvision; 50,000 and 10,000 images, the
    index is the position); ``DATA_DIR/cifar10/{train,test}/CLASS/*.png`` (all that are there; the index is the
    number in the file name where all names are different numbers, otherwise the position by class and name).

    Args:
        download: fetch the former where both are missing.
    """

    def __init__(
        self, *, validation: int = 2000, horizontal_flip: bool = True, download: bool = True, **options
    ) -> None:
        super().__init__(validation=validation, horizontal_flip=horizontal_flip, **options)
        self.download = download

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, 32, 32)

    @property
    def _batches(self) -> Path:
        return self.data_dir / "cifar-10-batches-py"

    @property
    def _folders(self) -> Path:
        return self.data_dir / "cifar10"

    def prepare_data(self) -> None:
        """Fetch the files where they are missing; UserError that names them where that is not possible."""
        present = any(folder.is_dir() for folder in (self._batches, self._folders / "train", self._folders / "test"))
        if self.download and not present:
            layouts = f"'{self._batches}' or '{self._folders}/{{train,test}}/CLASS/*.png'"
            wanted = f"CIFAR-10: put the files there as {layouts} (or set data_dir or DATA_DIR): they were"
            fetch(lambda: _torchvision(self.data_dir, train=True, download=True), data_dir=self.data_dir, wanted=wanted)

    def _training_images(self) -> ImageSet:
        return self._read("train")

    def _test_images(self) -> ImageSet:
        return self._read("test")

    def _read(self, part: str) -> ImageSet:
        if not self._batches.is_dir():
            files = _listed(self._folders / part)
            return everything(read_files(files, mode="colour", shape=self.shape, memory_limit_mb=self.memory_limit_mb))
        try:
            found = _torchvision(self.data_dir, train=part == "train", download=False)
        except RuntimeError as error:
            raise UserError(f"'{self._batches}' is incomplete or damaged: remove it and fetch it again") from error
        pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return everything(MemoryStore(pixels, label=torch.tensor(found.targets)))


def _torchvision(data_dir: Path, *, train: bool, download: bool):
    from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

    return TorchvisionCIFAR10(data_dir, train=train, download=download)


def _listed(folder: Path) -> Files:
    """The pictures of ``folder/CLASS/``, in the order of their index."""
    found = find_pictures(folder) if folder.is_dir() else []
    if not found:
        raise UserError(f"'{folder}/CLASS/*.png' is missing: put the pictures there, or set data_dir or DATA_DIR")
    for path in found:
        first = next(iter(path.parts), "")
        if first not in CLASSES or len(path.parts) < 2:
            hint = nearest(first, CLASSES)
            raise UserError(f"'{folder / path}' is in no class folder{hint}: the folders are {', '.join(CLASSES)}")
    numbers = [int(path.stem) if path.stem.isdecimal() else -1 for path in found]
    if min(numbers) >= 0 and len(set(numbers)) == len(numbers):
        order = sorted(range(len(found)), key=numbers.__getitem__)
        found, index = [found[k] for k in order], torch.tensor(sorted(numbers))
    else:
        index = torch.arange(len(found))
    return Files(folder, found, index, torch.tensor([CLASSES.index(path.parts[0]) for path in found]))
