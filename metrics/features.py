"""What distances between sets of images are measured in: the features of a frozen network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Args:
    features: float32 [B, d], on the CPU.
    probabilities: of the network's classes [B, K], or None where it has none.
    """

    features: Tensor
    probabilities: Tensor | None = None

    @classmethod
    def joined(cls, parts: list["Features"]) -> "Features":
        """Several batches as one; ValueError for none."""
        if not parts:
            raise ValueError("there are no features to join")
        known = all(p.probabilities is not None for p in parts)
        return cls(
            torch.cat([p.features for p in parts]), torch.cat([p.probabilities for p in parts]) if known else None
        )

    def rows(self, order: Tensor) -> "Features":
        """The rows of an order or a mask."""
        return Features(self.features[order], None if self.probabilities is None else self.probabilities[order])


class FeatureNetwork(ABC):
    """images -> features. name: of tables ("classifier_mnist", "inception"). fingerprint: of its weights. dimension: d.
    A new one is one new subclass.
    """

    name: str
    fingerprint: str
    dimension: int

    @abstractmethod
    def check(self, shape: tuple[int, int, int]) -> None:
        """UserError where images of this shape (C, H, W) cannot be measured."""

    @abstractmethod
    def to(self, device: torch.device) -> "FeatureNetwork":
        """The same network on a device."""

    @abstractmethod
    def of(self, images: Tensor) -> Features:
        """Features of 8-bit images, uint8 [B, C, H, W] on any device: what is measured is what would be saved. float32
        without TF32, whatever is around.
        """

    def of_all(self, images: Tensor, *, batch_size: int = 250) -> Features:
        """The same in batches."""
        return Features.joined([self.of(part) for part in images.split(batch_size)])
