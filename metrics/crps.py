"""How far the samples are from the truth, less how far they are from each other: a score that honest spread wins."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import SetMetric
from metrics.samples import sample_rows


class CRPS(SetMetric):
    """mean over values of [mean_k |x_k - truth| - sum_(k, l) |x_k - x_l| / (2 N (N - 1))], in [-1, 1] units: the
    continuous ranked probability score of the marginal of every value.

    The divisor N (N - 1), in place of N^2, makes its mean that of infinitely many samples, whatever N is, so that
    methods with other numbers of samples compare; of one image it may be negative. Smallest on average for samples of
    the posterior; of samples that are all alike it is their MAE. Gneiting and Raftery 2007; Ferro 2014 (fair scores).
    """

    label = "CRPS"
    unit = "in [-1, 1]"
    higher_is_better = False

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        x, reference = sample_rows(samples, truth)
        N = x.shape[1]
        error = (x - reference[:, None]).abs().mean(1)
        # Of values in order, sum_(k < l) |x_k - x_l| = sum_i (2 i - N - 1) x_(i), i = 1 .. N: no pairs are held.
        weight = 2 * torch.arange(1, N + 1, dtype=x.dtype, device=x.device) - N - 1
        spread = (x.sort(1).values * weight[:, None]).sum(1) / (N * (N - 1))
        return (error - spread).mean(1)
