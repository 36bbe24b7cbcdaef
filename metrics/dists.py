"""DISTS: structure and texture by features of VGG16."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from common.weight_files import WeightFile
from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.published_networks import VGG16, ByPublishedNetwork, DISTSDistance


class DISTS(ByPublishedNetwork, Metric):
    """1 - sum_lc (a_lc l(x, truth) + b_lc s(x, truth)): means (l, texture) and correlations (s, structure) of the
    channels of five layers of VGG16 and of the image, compared as SSIM does; 0 for equal images, up to about 1.

    By torchmetrics, on images as they are: the authors' code shrinks large ones to 256 pixels first, so compare inside
    one table. VGG16's file as for LPIPS; where it is not there the metric is a line below the table. Grey images become
    three equal channels, sides from 16 pixels. Ding et al. 2020 (2004.07728), equation 6.
    """

    label = "DISTS"
    higher_is_better = False

    def __init__(self) -> None:
        self.distance = DISTSDistance()

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        del options
        return (VGG16,)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return self.distance(pixels, truth)
