"""Mean absolute error."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import mae


class MAE(Metric):
    """Mean absolute error in grey levels 0..255; see :func:`metrics.distortion.mae`."""

    label = "MAE"
    unit = "grey levels"
    higher_is_better = False
    lowest = 0.0

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return mae(pixels, truth)
