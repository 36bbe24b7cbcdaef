"""Perceptual distances by published networks: built by their own library from a weight file that is on the machine."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from common.exact_float32 import exact_float32
from common.files import sha256_of
from common.torch_hub import hub_with
from common.weight_files import WeightFile
from metrics.base import MetricBase, Missing, Shape

_TORCHVISION = "https://download.pytorch.org/models/"
ALEXNET = WeightFile("alexnet-owt-7be5be79.pth", "AlexNet", _TORCHVISION + "alexnet-owt-7be5be79.pth", 244, "7be5be79")
VGG16 = WeightFile("vgg16-397923af.pth", "VGG16", _TORCHVISION + "vgg16-397923af.pth", 553, "397923af")
SQUEEZENET = WeightFile(
    "squeezenet1_1-b8a52dc0.pth", "SqueezeNet", _TORCHVISION + "squeezenet1_1-b8a52dc0.pth", 5, "b8a52dc0"
)

#: LPIPS' networks: their file, and the smallest side that they can bear.
LPIPS_NETWORKS = {"alex": (ALEXNET, 31), "vgg": (VGG16, 16), "squeeze": (SQUEEZENET, 17)}


def lpips_network(net: object, networks: Mapping[str, tuple[WeightFile, int]]) -> tuple[WeightFile, int]:
    """File and smallest side of a network of LPIPS; ValueError for one that it does not have."""
    if not isinstance(net, str) or net not in networks:
        raise ValueError(f"net must be {', '.join(networks)}, got '{net}'")
    return networks[net]


class PublishedDistance(ABC):
    """A distance of two images by a network of others, of grey or colour images, 0 for equal ones.

    Built by :meth:`to`, or on first use. Images go through one by one: so a number does not depend on its neighbours,
    to the last bit, and memory not on how many there are.

    Args:
        file: the weights that are not in the library.
        least: the smallest side.
        name: of the network, for messages.
    """

    hint = ""  # what a person can do about images that are too small

    def __init__(self, file: WeightFile, *, least: int, name: str) -> None:
        self.file, self.least, self.name = file, least, name
        self.device = torch.device("cpu")

    def check(self, shape: Shape) -> None:
        """Missing where images of this shape cannot be measured, or the weights are not there."""
        if shape[0] not in (1, 3):
            raise Missing(f"it is of grey or colour images, these have {shape[0]} channels")
        if min(shape[1:]) < self.least:
            raise Missing(
                f"{self.name} needs sides of {self.least} pixels, these images have {shape[1]}x{shape[2]}{self.hint}"
            )
        self._found()

    def to(self, device: torch.device) -> None:
        """Where it computes; it is built here, so that a file of no use is said before anything runs."""
        self.device = torch.device(device)
        self.network.to(self.device)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights. Missing where they are not there."""
        return sha256_of(self._found())

    @cached_property
    def network(self) -> nn.Module:
        """As its library builds it. Missing where the weights are not there, UserError where they are of no use."""
        with hub_with(self._found()):
            return self.build().eval().requires_grad_(False).to(self.device)

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """float64 [B] of 8-bit images [B, C, H, W]. TypeError for other dtypes, ValueError for other shapes."""
        if x.dtype != torch.uint8 or y.dtype != torch.uint8:
            raise TypeError(f"metrics are computed on 8-bit pixels, got {x.dtype} and {y.dtype}")
        if x.shape != y.shape or x.ndim != 4:
            raise ValueError(
                f"both images must have the same shape [B, C, H, W], got {list(x.shape)} and {list(y.shape)}"
            )
        pairs = zip(*(v.to(self.device).expand(-1, 3, -1, -1).split(1) for v in (x, y)), strict=True)
        with exact_float32(self.device):
            found = [self.of(self.network, a, b).reshape(()) for a, b in pairs]
        return torch.stack(found).double().to(x.device)

    @abstractmethod
    def build(self) -> nn.Module:
        """By the library, from torch's cache, which has the file."""

    @abstractmethod
    def of(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """One number, of uint8 [1, 3, H, W]."""

    def _found(self) -> Path:
        found = self.file.find()
        if found is None:
            raise Missing(self.file.absence())
        return found


class LPIPSDistance(PublishedDistance):
    """By the package lpips, version 0.1 of its heads. ValueError for a network that it does not have."""

    def __init__(self, net: str) -> None:
        file, least = lpips_network(net, LPIPS_NETWORKS)
        super().__init__(file, least=least, name=f"LPIPS with net '{net}'")
        self.net = net
        self.hint = "" if net == "vgg" else f"; net: vgg takes {LPIPS_NETWORKS['vgg'][1]}"

    def build(self) -> nn.Module:
        import lpips  # late: it imports SciPy, torchvision and scikit-image

        return lpips.LPIPS(net=self.net, version="0.1", verbose=False)

    def of(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return network(x.float() / 127.5 - 1, y.float() / 127.5 - 1)


class DISTSDistance(PublishedDistance):
    """By torchmetrics."""

    def __init__(self) -> None:
        super().__init__(VGG16, least=16, name="DISTS")

    def build(self) -> nn.Module:
        from torchmetrics.functional.image.dists import DISTSNetwork  # late: seconds

        return DISTSNetwork()

    def of(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return network(x.float() / 255, y.float() / 255)


class ByPublishedNetwork(MetricBase):
    """A metric of whatever kind that is such a distance, or made of it: shapes, device and weights are those of
    `distance`.
    """

    distance: PublishedDistance

    def check(self, shape: Shape) -> None:
        self.distance.check(shape)

    def to(self, device: torch.device) -> Self:
        self.distance.to(device)
        return self

    def weights(self) -> str:
        return self.distance.fingerprint
