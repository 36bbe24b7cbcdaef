"""HaarPSI: a perceptual similarity without learned weights, from Haar wavelets."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric, Missing, Shape
from metrics.distortion import RANGE, pixel_pair

LEAST_SIDE = 16  # the largest of its wavelets, on the halved image, has 8 pixels


class HaarPSI(Metric):
    """l^-1(sum_k l(s_k) w_k / sum_k w_k)^2, l(s) = 1 / (1 + exp(-4.2 s)): similarities s_k of the magnitudes of Haar
    wavelets of 2 and 4 pixels, with C = 30, weighted by the larger magnitude w_k at 8 pixels; 0 .. 1 for equal images.

    By piq, on images halved by averaging as in the paper, in float64. A colour image counts by luma (Y) and chroma (I,
    Q); of a black pair, where all weights are 0, it is 1. Its constants were fitted to judgements of photographs of
    half a megapixel: of digits it orders restorations, and means nothing beyond one table. Reisenhofer et al. 2018
    (1607.06140), section 2.
    """

    label = "HaarPSI"
    higher_is_better = True
    lowest = 0.0
    highest = 1.0

    def check(self, shape: Shape) -> None:
        if shape[0] not in (1, 3):
            raise Missing(f"it is of grey or colour images, these have {shape[0]} channels")
        if min(shape[1:]) < LEAST_SIDE:
            raise Missing(f"its wavelets need sides of {LEAST_SIDE} pixels, these images have {shape[1]}x{shape[2]}")

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        from piq import haarpsi  # late: with torchvision behind it, seconds that --help need not wait for

        x, reference = pixel_pair(pixels, truth)
        found = haarpsi(x, reference, data_range=RANGE, reduction="none")
        # piq's 0 / 0 of two black images is inf; rounding leaves 1 + 4e-15 of equal ones.
        black = (pixels.flatten(1).amax(1) == 0) & (truth.flatten(1).amax(1) == 0)
        return torch.where(black, 1.0, found).clamp(0, 1)
