"""Peak signal-to-noise ratio."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import psnr


class PSNR(Metric):
    """10 log10(255^2 / mse), capped at 100 dB; see :func:`metrics.distortion.psnr`."""

    label = "PSNR"
    unit = "dB"
    higher_is_better = True

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return psnr(pixels, truth)
