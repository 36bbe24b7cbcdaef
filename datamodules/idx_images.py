"""Data sets in the four IDX files of MNIST, in torchvision's layout."""

from abc import abstractmethod
from pathlib import Path

from datamodules import idx
from datamodules.base import ImageDataModule
from datamodules.download import fetch
from datamodules.store import ImageSet, everything


class IdxImages(ImageDataModule):
    """60,000 training and 10,000 test images, [1, 28, 28], labels 0..9; the index is the position in the official
    files.

    Files: ``DATA_DIR/NAME/raw/*-ubyte`` as torchvision stores them, or ``*-ubyte.gz``; where they are there, nothing
    is written.

    Args:
        download: fetch them where they are missing.
    """

    def __init__(self, *, validation: int = 5000, download: bool = True, **options) -> None:
        super().__init__(validation=validation, **options)
        self.download = download

    @property
    @abstractmethod
    def folder_name(self) -> str:
        """The name of the data set's folder in `data_dir`."""

    @abstractmethod
    def _download(self) -> None:
        """Fetch the files with torchvision."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 28, 28)

    @property
    def _folder(self) -> Path:
        return self.data_dir / self.folder_name / "raw"

    def prepare_data(self) -> None:
        """Fetch the files where they are missing; UserError that names them where that is not possible."""
        if self.download and not idx.complete(self._folder):
            names = ", ".join(f"{name}.gz" for pair in idx.FILES.values() for name in pair)
            wanted = f"{self.folder_name}: put {names} into '{self._folder}' (or set data_dir or DATA_DIR): they were"
            fetch(self._download, data_dir=self.data_dir, wanted=wanted)

    def _training_images(self) -> ImageSet:
        return everything(idx.read_store(self._folder, "train"))

    def _test_images(self) -> ImageSet:
        return everything(idx.read_store(self._folder, "test"))
