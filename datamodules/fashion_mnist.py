"""FashionMNIST: 70,000 pictures of clothing, 28x28 grey (Xiao, Rasul, Vollgraf 2017), in torchvision's layout."""

from datamodules.idx_images import IdxImages


class FashionMNIST(IdxImages):
    """Clothing on black: 60,000 training and 10,000 test images, [1, 28, 28], labels 0..9."""

    @property
    def folder_name(self) -> str:
        return "FashionMNIST"

    def _download(self) -> None:
        from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

        TorchvisionFashionMNIST(self.data_dir, download=True)
