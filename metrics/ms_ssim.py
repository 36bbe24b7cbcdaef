"""Structural similarity at several scales."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric, Missing, Shape
from metrics.distortion import RANGE, SSIM_WINDOW, pixel_pair

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class MSSSIM(Metric):
    """l_S^(w_S) prod_{s <= S} (cs_s)^(w_s): luminance at the coarsest and contrast-structure at all of S scales, each
    half as large as the one before; 1 for equal images, 0 and less similar.

    By torchmetrics in float64: Gaussian window of 11 pixels and standard deviation 1.5, range 255, negative
    similarities cut at 0, a mean over places and channels. With fewer than the five scales of the paper the first
    weights are divided by their sum. Wang et al. 2003 (Asilomar), equation 7.

    Args:
        scales: S, 2 .. 5: five need sides of 176 pixels, four 99, three 44, two 12. Five is what papers mean; with
            others say so, numbers of different S cannot be compared.
    """

    label = "MS-SSIM"
    higher_is_better = True
    lowest = -1.0
    highest = 1.0

    def __init__(self, *, scales: int = 5) -> None:
        if not 2 <= scales <= len(WEIGHTS):
            raise ValueError(f"scales must be 2 .. {len(WEIGHTS)}, got {scales}")
        self.scales = scales
        self.label = "MS-SSIM" if scales == len(WEIGHTS) else f"MS-SSIM, {scales} scales"

    def check(self, shape: Shape) -> None:
        check_scales(self.scales, shape)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return ms_ssim(pixels, truth, scales=self.scales)


def check_scales(scales: int, shape: Shape) -> None:
    """Missing where so many scales do not fit; says how many do."""
    side = min(shape[1:])
    if not _fits(scales, side):
        most = max((s for s in range(2, len(WEIGHTS) + 1) if _fits(s, side)), default=None)
        hint = f"give scales: {most}" if most else "no number of scales fits"
        raise Missing(f"{scales} scales do not fit into images of {shape[1]}x{shape[2]}: {hint}")


def ms_ssim(x: Tensor, truth: Tensor, *, scales: int) -> Tensor:
    """See :class:`MSSSIM`: float64 [B] of 8-bit images [B, C, H, W]."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure  # late: seconds

    a, b = pixel_pair(x, truth)
    share = sum(WEIGHTS[:scales])
    # One by one: torchmetrics gives the same for a batch, up to the order of sums.
    found = [
        measure(p, q, data_range=RANGE, betas=tuple(w / share for w in WEIGHTS[:scales]), reduction="none")
        for p, q in zip(a.split(1), b.split(1), strict=True)
    ]
    return torch.cat([f.reshape(1) for f in found]).double()


def _fits(scales: int, side: int) -> bool:
    """torchmetrics' condition, and that the coarsest image can be mirrored by half a window."""
    return side // (scales - 1) ** 2 >= SSIM_WINDOW and side // 2 ** (scales - 1) > SSIM_WINDOW // 2
