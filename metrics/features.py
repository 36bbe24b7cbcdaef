"""What distances between sets of images are measured in: features of a frozen network, and rows of them by image."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from common.weight_files import WeightFile
from metrics.moments import Moments


@dataclass(frozen=True)
class Features:
    """What a network says of B images.

    Args:
        features: float32 [B, d], on the CPU.
        probabilities: of the network's classes [B, K], or None where it has none.
    """

    features: Tensor
    probabilities: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Features"]) -> "Features":
        """Several batches as one; ValueError for none."""
        if not parts:
            raise ValueError("there are no features to join")
        known = [p.probabilities for p in parts if p.probabilities is not None]
        return cls(torch.cat([p.features for p in parts]), torch.cat(known) if len(known) == len(parts) else None)

    @classmethod
    def collected(cls, count: int, batches: Iterable["Features"]) -> "Features":
        """`count` rows, as batches give them one after the other. ValueError where they give fewer or more.

        Every batch is copied into one array that is there from the first on: small tensors that are kept between a
        network's large ones would hold the memory around them (glibc; 70 MB more at 4,000 images).
        """
        features: Tensor | None = None
        probabilities: Tensor | None = None
        end = 0
        for batch in batches:
            begin, end = end, end + len(batch.features)
            if end > count:
                raise ValueError(f"the batches give more than {count} rows")
            if features is None:
                features = batch.features.new_empty(count, *batch.features.shape[1:])
                if batch.probabilities is not None:
                    probabilities = batch.probabilities.new_empty(count, *batch.probabilities.shape[1:])
            features[begin:end] = batch.features
            if probabilities is not None and batch.probabilities is not None:
                probabilities[begin:end] = batch.probabilities
        if features is None or end != count:
            raise ValueError(f"the batches give {end} rows, not {count}")
        return cls(features, probabilities)

    def rows(self, order: Tensor) -> "Features":
        """The rows of an order or a mask."""
        return Features(self.features[order], None if self.probabilities is None else self.probabilities[order])

    @cached_property
    def moments(self) -> Moments:
        """Their moments, summed once however many metrics ask."""
        return Moments.of(self.features)


@dataclass(frozen=True)
class FeatureRows:
    """Features of images in the order of their indices; the union of two states is exactly the state of all images.

    Args:
        index: of the images, int64 [N], ascending.
        features: their features, row by row.
    """

    index: Tensor
    features: Features

    @classmethod
    def of(cls, index: Sequence[int] | Tensor, features: Features) -> "FeatureRows":
        """Rows in any order. ValueError for an index that comes twice, or another number of rows."""
        found = torch.as_tensor(index, dtype=torch.int64)
        if found.ndim != 1 or len(found) != len(features.features):
            raise ValueError(f"index must name every row once, got {len(found)} for {len(features.features)} rows")
        order = found.argsort()
        found = found[order]
        twice = found[1:][found[1:] == found[:-1]]
        if len(twice):
            raise ValueError(f"image {int(twice[0])} comes twice: shards of an evaluation must not overlap")
        return cls(found, features.rows(order))

    @classmethod
    def joined(cls, parts: Sequence["FeatureRows"]) -> "FeatureRows":
        """Several states as one; ValueError for none, and for an index that is in two of them."""
        return cls.of(torch.cat([p.index for p in parts]), Features.joined([p.features for p in parts]))

    def __add__(self, other: "FeatureRows") -> "FeatureRows":
        return FeatureRows.joined([self, other])


class FeatureNetwork(ABC):
    """images -> features. name: of tables ("classifier_mnist", "inception"). fingerprint: of its weights. dimension: d.
    A new one is one new subclass.
    """

    name: str
    fingerprint: str
    dimension: int

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        """Files of other projects that it needs with these options; evaluate.py --prepare fetches them."""
        del options
        return ()

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
        return Features.collected(len(images), (self.of(part) for part in images.split(batch_size)))
