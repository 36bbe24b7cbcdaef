"""How far apart two samples of one measurement are."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import SetMetric
from metrics.samples import pairs_of_samples, sample_rows


class PairwiseRMSE(SetMetric):
    """Mean over pairs of samples of sqrt(mean (x_i - x_j)^2), in [-1, 1] units: 0 for equal samples .. 2.

    Of exact posterior samples it is as large as the RMSE of one to the truth; so neither end is best.
    """

    label = "pairwise RMSE"
    unit = "in [-1, 1]"
    lowest = 0.0

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return pairs_of_samples(sample_rows(samples, truth)[0])
