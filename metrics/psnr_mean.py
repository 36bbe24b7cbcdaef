"""PSNR of the mean of several samples: what averaging gains."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import SetMetric
from metrics.distortion import psnr_of_mse
from metrics.samples import sample_rows, squared_error_of_mean


class PSNRMean(SetMetric):
    """10 log10(255^2 / |x_mean - truth|^2) in dB, with x_mean the mean of the N samples (not rounded again), capped at
    100 dB; higher is better.

    Of exact posterior samples it lies 10 log10(2 N / (N + 1)) dB above the PSNR of one.
    """

    label = "PSNR of the mean of N"
    unit = "dB"
    higher_is_better = True

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        x, reference = sample_rows(samples, truth)
        return psnr_of_mse(squared_error_of_mean(x, reference) * 127.5**2)
