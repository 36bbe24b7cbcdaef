"""Peak signal-to-noise ratio."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import psnr


class PSNR(Metric):
    """10 log10(255^2 / mse): 0 dB .. 100, where it is capped, higher is better; see :func:`metrics.distortion.psnr`.

    Only of restorations of the same image does it follow quality: Huynh-Thu and Ghanbari 2008 (Electronics Letters 44).
    """

    label = "PSNR"
    unit = "dB"
    higher_is_better = True

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return psnr(pixels, truth)
