"""Structural similarity."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric, Missing, Shape
from metrics.distortion import SSIM_WINDOW, ssim


class SSIM(Metric):
    """Structural similarity: -1 .. 1 for equal images, higher is better; Gaussian window of 11 pixels, no number for a
    side under 11; see :func:`metrics.distortion.ssim`. Wang et al. 2004 (IEEE Trans. Image Processing 13), equation 13.
    """

    label = "SSIM"
    higher_is_better = True
    lowest = -1.0
    highest = 1.0

    def check(self, shape: Shape) -> None:
        if min(shape[1:]) < SSIM_WINDOW:
            raise Missing(f"its window of {SSIM_WINDOW} pixels does not fit into images of {shape[1]}x{shape[2]}")

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return ssim(pixels, truth)
