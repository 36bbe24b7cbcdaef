"""Structural similarity."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import ssim


class SSIM(Metric):
    """Structural similarity, Gaussian window of 11 pixels; NaN for a side under 11; see
    :func:`metrics.distortion.ssim`.
    """

    label = "SSIM"
    higher_is_better = True

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return ssim(pixels, truth)
