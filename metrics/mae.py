"""Mean absolute error."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Metric
from metrics.distortion import mae


class MAE(Metric):
    """mean |x - truth| in grey levels: 0 for equal images .. 255, larger is worse; see
    :func:`metrics.distortion.mae`.
    """

    label = "MAE"
    unit = "grey levels"
    higher_is_better = False
    lowest = 0.0

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        return mae(pixels, truth)
