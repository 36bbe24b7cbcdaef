"""MNIST: 70,000 handwritten digits, 28x28 grey (LeCun, Cortes, Burges 1998), in torchvision's layout."""

from datamodules.idx_images import IdxImages


class MNIST(IdxImages):
    """Handwritten digits, white on black: 60,000 training and 10,000 test images, [1, 28, 28], labels 0..9."""

    @property
    def folder_name(self) -> str:
        return "MNIST"

    def _download(self) -> None:
        from torchvision.datasets import MNIST as TorchvisionMNIST

        TorchvisionMNIST(self.data_dir, download=True)
