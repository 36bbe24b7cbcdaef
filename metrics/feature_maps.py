"""What a perceptual loss is measured in: the maps of a frozen network, with gradient."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class FeatureMaps(ABC):
    """images -> maps of several layers. Differentiable; the weights are frozen. A new network is one new subclass."""

    @abstractmethod
    def check(self, shape: tuple[int, int, int]) -> None:
        """UserError where images of this shape (C, H, W) cannot be looked at."""

    @abstractmethod
    def to(self, device: torch.device) -> "FeatureMaps":
        """The same network on a device."""

    @abstractmethod
    def of(self, images: Tensor) -> list[Tensor]:
        """The maps [B, C_l, H_l, W_l] of images [B, C, H, W] in [-1, 1]; those of an image do not depend on its
        neighbours.
        """
