"""One half of every picture is missing."""

from typing import Literal

import torch

from common.errors import UserError
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask

SIDES = ("right", "left", "bottom", "top")


class HalfMask(Degradation):
    """y = M * x with M = 0 on one half of the picture; missing pixels read 0, which is mid-grey.

    Args:
        missing: right (as in RePaint, which is shown the left half), left, bottom or top. Of an odd number of pixels
            the smaller half is missing.

    Raises:
        UserError: another side, and, when bound, a picture of one pixel that way, of which nothing would be missing.

    Source: "half" of RePaint (Lugmayr et al. 2022, 2201.09865).
    """

    def __init__(self, *, missing: Literal["right", "left", "bottom", "top"] = "right") -> None:
        if missing not in SIDES:
            raise UserError(f"missing must be one of {', '.join(SIDES)}, got '{missing}'")
        self.missing = missing

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        across = self.missing in ("left", "right")
        side = shape[2] if across else shape[1]
        if side < 2:
            raise UserError(f"missing={self.missing} needs at least 2 pixels that way, the images have {side}")
        known = torch.ones(side)
        lost = side // 2
        known[slice(0, lost) if self.missing in ("left", "top") else slice(side - lost, side)] = 0
        mask = known.expand(shape[1:]) if across else known[:, None].expand(shape[1:])
        return Mask(mask, channels=shape[0], description=f"mask, the {self.missing} half missing")
