"""FashionMNIST: 70,000 pictures of clothing, 28x28 grey (Xiao, Rasul, Vollgraf 2017), in torchvision's layout."""

from datamodules.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 training and 10,000 test images, [1, 28, 28], labels 0..9; the index is the position in the official files.

    Files: ``DATA_DIR/FashionMNIST/raw/*-ubyte`` or ``*-ubyte.gz``. Options: :class:`datamodules.mnist.MNIST`.
    """

    folder_name = "FashionMNIST"

    def _download(self) -> None:
        from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

        TorchvisionFashionMNIST(self.data_dir, download=True)
