"""LPIPS: the perceptual distance of most papers, by features of an ImageNet network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from common.weight_files import WeightFile
from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.published_networks import LPIPS_NETWORKS, ByPublishedNetwork, LPIPSDistance, lpips_network


class LPIPS(ByPublishedNetwork, Metric):
    """sum_l mean_hw sum_c w_lc (f_lc(x) - f_lc(truth))^2, f_l the features of layer l of unit length: 0 for equal
    images, larger is worse.

    By the package lpips (version 0.1 of its weights w). The ImageNet network below it is a file of torchvision, which
    is not part of any package: see docs/evaluation.md; where it is not there the metric is a line below the table. Grey
    images become three equal channels. Numbers of two networks cannot be compared; sides under 64 pixels were never
    judged by anyone. Zhang et al. 2018 (1801.03924), equation 1.

    Args:
        net: alex (sides from 31 pixels), vgg (from 16) or squeeze (from 17); the default is the package's own.
    """

    label = "LPIPS"
    higher_is_better = False
    lowest = 0.0

    def __init__(self, *, net: str = "alex") -> None:
        self.distance = LPIPSDistance(net)
        self.label = f"LPIPS ({net})"

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        return (lpips_network(options.get("net", "alex"), LPIPS_NETWORKS)[0],)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return self.distance(pixels, truth)
