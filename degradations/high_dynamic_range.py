"""A scene with more contrast than the camera has: what is too bright or too dark is clipped."""

import math

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import Degradation, Operator, Params, Shape


class Clipped(Operator):
    """A(x) = clip(factor x, -1, 1). Not linear; its gradient is factor where nothing was clipped, and 0 elsewhere."""

    linear = False

    def __init__(self, factor: float, shape: Shape) -> None:
        self.factor = factor
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = f"clipping of {factor:g} times the contrast"

    def __call__(self, x: Images) -> Measurements:
        return (self.factor * x).clamp(-1, 1)

    def norm(self) -> float:
        """Of the derivative, exact."""
        return self.factor


class HighDynamicRange(Degradation):
    """y = clip(factor x, -1, 1): contrast is multiplied about mid-grey, and what leaves the range is lost.

    Args:
        factor: above 1; 2 as published.

    Raises:
        UserError: a factor that clips nothing.

    Source: RED-diff (Mardani et al. 2023, 2305.04391), DAPS (Zhang et al. 2024, 2407.01521): "high dynamic range".
    """

    def __init__(self, *, factor: float = 2.0) -> None:
        if not 1 < factor < math.inf:
            raise UserError(f"factor must be finite and above 1, got {factor}: up to 1 nothing is clipped")
        self.factor = float(factor)

    def bind(self, params: Params, shape: Shape) -> Clipped:
        del params
        return Clipped(self.factor, shape)
