"""MDSI: how unevenly an image differs from the truth, without learned weights."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric, Missing, Shape
from metrics.distortion import RANGE, pixel_pair

LEAST_SIDE = 3  # of the Prewitt filter


class MDSI(Metric):
    """(mean |g^(1/4) - mean g^(1/4)|)^(1/4), g = .6 GS + .4 CS: the mean deviation of a map of similarities of
    gradients (Prewitt, of luma) and of chroma; 0 for equal images, larger is worse.

    By piq in float64, with the constants of the paper; images of more than 384 pixels are averaged down first. Grey
    images become three equal channels. A deviation, so a change that is the same everywhere (of brightness) costs
    nothing, and one wrong place much: read it beside PSNR. Nafchi et al. 2016 (1608.07433), section 3.
    """

    label = "MDSI"
    higher_is_better = False
    lowest = 0.0

    def check(self, shape: Shape) -> None:
        if shape[0] not in (1, 3):
            raise Missing(f"it is of grey or colour images, these have {shape[0]} channels")
        if min(shape[1:]) < LEAST_SIDE:
            raise Missing(f"its filter needs sides of {LEAST_SIDE} pixels, these images have {shape[1]}x{shape[2]}")

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        from piq import mdsi  # late: with torchvision behind it, seconds that --help need not wait for

        x, reference = (v.expand(-1, 3, -1, -1) for v in pixel_pair(pixels, truth))
        return mdsi(x, reference, data_range=RANGE, reduction="none").reshape(len(x)).to(torch.float64)
