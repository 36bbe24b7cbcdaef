"""How different two samples of one measurement look: LPIPS and MS-SSIM between samples."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from common.weight_files import WeightFile
from degradations.measurement import Measurement
from metrics.base import SetMetric, Shape
from metrics.ms_ssim import check_scales, ms_ssim
from metrics.published_networks import LPIPS_NETWORKS, ByPublishedNetwork, LPIPSDistance, lpips_network
from metrics.samples import sample_rows


class PairwiseLPIPS(ByPublishedNetwork, SetMetric):
    """Mean over pairs of samples of LPIPS(x_i, x_j): 0 for equal samples, larger is more diverse; see
    :class:`metrics.lpips.LPIPS`.

    Neither end is best: scattered noise is diverse too. Compare methods on one task, and read it beside LPIPS to the
    truth. Zhu et al. 2017 (1711.11586), section 5.

    Args:
        net: alex (sides from 31 pixels), vgg (from 16) or squeeze (from 17).
    """

    label = "pairwise LPIPS"
    lowest = 0.0

    def __init__(self, *, net: str = "alex") -> None:
        self.distance = LPIPSDistance(net)
        self.label = f"pairwise LPIPS ({net})"

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        return (lpips_network(options.get("net", "alex"), LPIPS_NETWORKS)[0],)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return _mean_over_pairs(self.distance, samples, truth)


class PairwiseMSSSIM(SetMetric):
    """Mean over pairs of samples of MS-SSIM(x_i, x_j): 1 for equal samples, lower is more diverse; see
    :class:`metrics.ms_ssim.MSSSIM`.

    Neither end is best. Compare samples with samples alone: real images of one class are less alike than any posterior.
    Odena et al. 2017 (1610.09585), section 4.2.

    Args:
        scales: 2 .. 5: five need sides of 176 pixels, four 99, three 44, two 12.
    """

    label = "pairwise MS-SSIM"
    lowest = -1.0
    highest = 1.0

    def __init__(self, *, scales: int = 5) -> None:
        if not 2 <= scales <= 5:
            raise ValueError(f"scales must be 2 .. 5, got {scales}")
        self.scales = scales
        self.label = "pairwise MS-SSIM" if scales == 5 else f"pairwise MS-SSIM, {scales} scales"

    def check(self, shape: Shape) -> None:
        check_scales(self.scales, shape)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return _mean_over_pairs(lambda x, y: ms_ssim(x, y, scales=self.scales), samples, truth)


def _mean_over_pairs(distance: Callable[[Tensor, Tensor], Tensor], samples: Tensor, truth: Tensor) -> Tensor:
    """float64 [B] of samples [B, N, C, H, W]."""
    sample_rows(samples, truth)  # refuses what is no set of samples
    N = samples.shape[1]
    pairs = [distance(samples[:, i], samples[:, j]) for i in range(N) for j in range(i + 1, N)]
    return torch.stack(pairs).double().mean(0)
