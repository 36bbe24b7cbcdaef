"""Few grey levels: every value is rounded to the nearest one."""

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import Degradation, Operator, Params, Shape
from degradations.steps import with_gradient_of


class Quantised(Operator):
    """A(x) = 2 round((L - 1) v) / (L - 1) - 1, v = (clip(x, -1, 1) + 1) / 2: the nearest of L levels from -1 to 1. Not
    linear.

    Its own derivative is 0; the gradient that it gives is that of clip(x, -1, 1) (`smooth`), so that a residual pulls
    every value towards the level that was measured, and no more once it is there.
    """

    linear = False

    def __init__(self, levels: int, shape: Shape) -> None:
        self.levels = levels
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = f"rounding to {levels} levels"

    def __call__(self, x: Images) -> Measurements:
        smooth = self.smooth(x)
        steps = self.levels - 1
        # up from the middle, in any dtype: round would go to the even of two levels
        level = ((smooth + 1) * (steps / 2) + 0.5).floor().clamp(0, steps)
        return with_gradient_of(2 * level / steps - 1, smooth)

    def smooth(self, x: Images) -> Measurements:
        return x.clamp(-1, 1)


class Quantisation(Degradation):
    """y = the nearest of `levels` evenly spaced values from -1 (black) to 1 (white), in every channel.

    Args:
        levels: 2 (black and white) to 256.

    Raises:
        UserError: another number of levels.

    Source: a task of RED-diff (Mardani et al. 2023, 2305.04391).
    """

    def __init__(self, *, levels: int = 8) -> None:
        if not 2 <= levels <= 256 or levels != int(levels):
            raise UserError(f"levels must be a whole number from 2 to 256, got {levels}")
        self.levels = int(levels)

    def bind(self, params: Params, shape: Shape) -> Quantised:
        del params
        return Quantised(self.levels, shape)
