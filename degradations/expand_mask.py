"""All but the middle of every picture is missing."""

import torch

from common.errors import UserError
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask


class ExpandMask(Degradation):
    """y = M * x with M = 1 on a rectangle in the middle alone; missing pixels read 0, which is mid-grey.

    Args:
        known: of each side, in (0, 1): 0.25 keeps 64x64 of 256x256 pixels, as RePaint, and 7x7 of 28x28. Rounded to
            whole pixels, at least one; the middle is rounded to the upper left.

    Raises:
        UserError: a share out of range, and, when bound, images so small that nothing would be missing.

    Source: "expand" of RePaint (Lugmayr et al. 2022, 2201.09865).
    """

    def __init__(self, *, known: float = 0.25) -> None:
        if not 0 < known < 1:
            raise UserError(f"known must be a share of each side between 0 and 1, got {known}")
        self.known = known

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        height, width = shape[1:]
        rows, columns = (max(1, int(self.known * side + 0.5)) for side in (height, width))
        if (rows, columns) == (height, width):
            raise UserError(f"known={self.known:g} leaves nothing out of images of {height}x{width}: choose less")
        top, left = (height - rows) // 2, (width - columns) // 2
        mask = torch.zeros(height, width)
        mask[top : top + rows, left : left + columns] = 1
        return Mask(mask, channels=shape[0], description=f"mask, {columns}x{rows} pixels in the middle known")
