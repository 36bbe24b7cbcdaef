"""How wide the samples of one measurement scatter."""

import numpy as np
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, SetMetric
from metrics.samples import sample_rows, variance_of_samples


class SampleDeviation(SetMetric):
    """sqrt(mean over images and values of 1/(N-1) sum_k (x_k - x_mean)^2), the posterior standard deviation, in
    [-1, 1] units: 0 for equal samples. Of the mean variance, not a mean of roots.

    Whether it is as large as the error is asked by :class:`metrics.calibration.Calibration`; so neither end is best.
    """

    label = "deviation of samples"
    unit = "in [-1, 1]"
    parts = ("sample_variance",)

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, self.label, self.unit, of_means=lambda means: np.sqrt(means[0]), lowest=0.0),)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return variance_of_samples(sample_rows(samples, truth)[0])
