"""Is the spread of the samples as large as their error?"""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, SetMetric
from metrics.samples import sample_rows, squared_error_of_mean, variance_of_samples


class Calibration(SetMetric):
    """V / B of means over images: V = 1/(N-1) sum |x_k - x_mean|^2, B = |x_mean - truth|^2 - V/N, per value.

    1 for a calibrated sampler, 0 for one that collapsed, above 1 for one that scatters too much. V is the variance of
    the samples, B the squared error of their mean without what chance adds to it, which may be negative for one image:
    so the ratio is taken of the means.
    Fortin et al. 2014 (J. Hydrometeorology 15, 1708), of ensembles of weather forecasts.
    """

    label = "calibration V/B"
    unit = "1 is right"
    parts = ("variance", "bias")

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, self.label, self.unit, None, of_means=lambda means: means[0] / means[1], lowest=0.0),)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        x, reference = sample_rows(samples, truth)
        variance = variance_of_samples(x)
        return torch.stack([variance, squared_error_of_mean(x, reference) - variance / x.shape[1]], 1)
