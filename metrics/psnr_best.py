"""PSNR of the best of several samples: how near one of them comes."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import SetMetric
from metrics.distortion import psnr_of_mse
from metrics.samples import sample_rows


class PSNRBest(SetMetric):
    """max_k 10 log10(255^2 / |x_k - truth|^2) in dB over the N samples, capped at 100 dB; higher is better.

    It is chosen by the truth, so no restoration: whether what is right is among what is shown. It grows with N: compare
    at equal N.
    """

    label = "PSNR of the best of N"
    unit = "dB"
    higher_is_better = True

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        x, reference = sample_rows(samples, truth)
        errors = (x - reference[:, None]).square().mean(2)
        return psnr_of_mse(torch.min(errors, 1).values * 127.5**2)
