"""Does the restoration explain the measurement?"""

import torch
from torch import Tensor

from common.image_range import to_float
from degradations.measurement import Measurement
from metrics.base import Metric


class Consistency(Metric):
    """sqrt(mean (A x - y)^2) over measured values, in [-1, 1] units, thus in the units of sigma.

    To be read beside the column `sigma`: samples of an exact posterior sampler lie at sigma, below it the noise was
    fitted, above it the measurement was not honoured; so neither end is best. Where the operator keeps pixels (a mask)
    the missing ones do not count. Rounding x to 8 bits adds up to .0023 in quadrature. As a PSNR it is the
    LR-PSNR of Lugmayr et al. 2021 (NTIRE challenge on the super-resolution space).
    """

    label = "RMSE of Ax − y"
    unit = "in [-1, 1]"
    higher_is_better = None
    lowest = 0.0

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del truth
        squared = (measurement.operator(to_float(pixels)) - measurement.y).double().square()
        mask = measurement.operator.mask
        weight = torch.ones_like(squared) if mask is None else mask.to(squared).expand_as(squared)
        # An image of which nothing was measured has no residual: 0 / 0 = NaN, missing.
        return ((squared * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))).sqrt()
