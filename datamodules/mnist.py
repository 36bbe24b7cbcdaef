"""MNIST: 70,000 handwritten digits, 28x28 grey (LeCun, Cortes, Burges), in torchvision's layout."""

from datamodules import idx
from datamodules.base import ImageDataModule
from datamodules.download import fetch
from datamodules.store import ImageSet, everything


class MNIST(ImageDataModule):
    """60,000 training and 10,000 test images, [1, 28, 28], white on black, labels 0..9; the index is the position in the official files.

    Files: ``DATA_DIR/MNIST/raw/*-ubyte`` as torchvision stores them, or ``*-ubyte.gz``; nothing is written where they are there.
    download: fetch them where they are missing. Other options: :class:`ImageDataModule`.
    """

    folder_name = "MNIST"

    def __init__(self, *, validation: int = 5000, download: bool = True, **options) -> None:
        super().__init__(validation=validation, **options)
        self.download = download

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 28, 28)

    def prepare_data(self) -> None:
        """Fetch the files where they are missing; UserError that names them where that is not possible."""
        folder = self.data_dir / self.folder_name / "raw"
        if self.download and not idx.complete(folder):
            names = ", ".join(f"{name}.gz" for pair in idx.FILES.values() for name in pair)
            wanted = f"{self.folder_name}: put {names} into '{folder}' (or set data_dir or DATA_DIR): they were"
            fetch(self._download, data_dir=self.data_dir, wanted=wanted)

    def _download(self) -> None:
        from torchvision.datasets import MNIST as TorchvisionMNIST

        TorchvisionMNIST(self.data_dir, download=True)

    def _training_images(self) -> ImageSet:
        return everything(idx.read_store(self.data_dir / self.folder_name / "raw", "train"))

    def _test_images(self) -> ImageSet:
        return everything(idx.read_store(self.data_dir / self.folder_name / "raw", "test"))
