"""The one interface of per-image metrics: one number per image, on the 8-bit pixels that are saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from degradations.measurement import Measurement


@dataclass(frozen=True)
class Pooled:
    """A number of a set of images that is a monotone function of the mean over images, `of_mean`.

    Args:
        name: in table.csv.
        label: how tables show it.
        unit: how tables show it.
    """

    name: str
    label: str
    unit: str
    of_mean: Callable[[np.ndarray], np.ndarray]


class Metric(ABC):
    """metric(pixels, truth, measurement) -> float64 [B].

    A new metric is one new file with a subclass; a config names it under `metrics:` by its class path, and that name
    becomes the column of rows.csv. label, unit: how tables show it ("PSNR", "dB"). higher_is_better: True, False, or
    None where neither end is best (nothing is marked as best then). pooled: what tables show in place of the mean over
    images, None for the mean itself.
    """

    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    pooled: Pooled | None = None

    @abstractmethod
    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        """One number per image; NaN where the metric does not exist for images of this size, which tables show as
        missing.

        pixels, truth: uint8 [B, C, H, W], one restoration of each image, and the images. measurement: what was
        restored, for metrics that need A and y.
        """
