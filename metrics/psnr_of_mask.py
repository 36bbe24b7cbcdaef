"""PSNR of the pixels that a mask took away, and of those that it left."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import pixel_pair, psnr_of_mse


class PSNRMissing(Metric):
    """10 log10(255^2 / mse) over the missing pixels of a mask in all channels: what was made up; 0 dB .. 100, where it
    is capped, higher is better.

    Where nothing is missing, or the operator does not keep pixels (blur, sub-sampling), there is no number. Of a known
    image alone it says what PSNR of the whole hides: a mask with a tenth missing adds 10 dB to a guess.
    """

    label = "PSNR, missing pixels"
    unit = "dB"
    higher_is_better = True

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        return _psnr(pixels, truth, measurement, measured=False)


class PSNRMeasured(Metric):
    """10 log10(255^2 / mse) over the measured pixels of a mask in all channels: what was kept, and how much of the
    noise of y was taken off it; 0 dB .. 100, where it is capped, higher is better. No number where no pixel is measured
    as it is.
    """

    label = "PSNR, measured pixels"
    unit = "dB"
    higher_is_better = True

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        return _psnr(pixels, truth, measurement, measured=True)


def _psnr(pixels: Tensor, truth: Tensor, measurement: Measurement, *, measured: bool) -> Tensor:
    x, reference = pixel_pair(pixels, truth)
    operator = measurement.operator
    if not operator.keeps_pixels or operator.mask is None:
        return torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    mask = operator.mask.to(x).expand_as(x)
    weight = mask if measured else 1 - mask
    # Of no pixel: 0 / 0 = NaN, missing.
    return psnr_of_mse(((x - reference).square() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)))
