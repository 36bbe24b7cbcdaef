"""What data loaders give: images with their index in the data set, because masks, weights and noise are keyed by it."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One batch: image [B, C, H, W] (uint8 at rest, float32 in [-1, 1] when a model sees it), index int64 [B], label
    int64 [B] (-1: none).
    """

    image: Tensor
    index: Tensor
    label: Tensor
