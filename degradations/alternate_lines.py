"""Lines of every picture are missing: every second row, say."""

from typing import Literal

import torch

from common.errors import UserError
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask

LINES = ("rows", "columns", "both")


class AlternateLines(Degradation):
    """y = M * x with M = 1 in every `period`-th line alone, the first one included; missing pixels read 0, which is
    mid-grey.

    Args:
        lines: rows (as in RePaint), columns, or both: one pixel of each block of period x period is known, which is
            RePaint's super-resolution by nearest neighbours.
        period: of the known lines, at least 2; 2 leaves out every second one.

    Raises:
        UserError: options out of range, and, when bound, images with fewer than two of the lines.

    Source: "alternating lines" and "super-resolve 2x" of RePaint (Lugmayr et al. 2022, 2201.09865).
    """

    def __init__(self, *, lines: Literal["rows", "columns", "both"] = "rows", period: int = 2) -> None:
        if lines not in LINES:
            raise UserError(f"lines must be one of {', '.join(LINES)}, got '{lines}'")
        if period < 2 or period != int(period):
            raise UserError(f"period must be a whole number of at least 2, got {period}")
        self.lines, self.period = lines, int(period)

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        height, width = shape[1:]
        if (self.lines != "columns" and height < 2) or (self.lines != "rows" and width < 2):
            raise UserError(f"lines={self.lines} leaves nothing out of images of {height}x{width}: take larger ones")
        rows, columns = (
            (torch.arange(side) % self.period == 0) | (self.lines == other)
            for side, other in ((height, "columns"), (width, "rows"))
        )
        mask = (rows[:, None] & columns).float()
        kept = "rows and columns" if self.lines == "both" else self.lines
        return Mask(mask, channels=shape[0], description=f"mask, one of {self.period} {kept} known")
