"""Mean squared error of an image; over a set of images, tables show the pooled root of it."""

import numpy as np
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, Metric
from metrics.distortion import RANGE, mse


class MSE(Metric):
    """mean (x - truth)^2 over channels and pixels of images in [0, 1]: 0 for equal images .. 1, larger is worse; see
    :func:`metrics.distortion.mse`.

    Tables show sqrt(mean over images): the RMSE over all pixels of all images at once, as cold diffusion reports it
    (2208.09392; there of outputs that are not clipped, here of the saved 8-bit images). It is not the mean of the
    images' own RMSE (metrics/rmse.py), which is smaller.
    """

    label = "MSE"
    unit = "in [0, 1]"
    higher_is_better = False
    lowest = 0.0

    def columns(self, name: str) -> tuple[Column, ...]:
        plain = Column(name, self.label, self.unit, self.higher_is_better, shown=False, lowest=0.0)
        pooled = Column(
            "rmse_pooled", "RMSE, pooled", self.unit, False, of_means=lambda means: np.sqrt(means[0]), lowest=0.0
        )
        return (plain, pooled)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return mse(pixels, truth) / RANGE**2
