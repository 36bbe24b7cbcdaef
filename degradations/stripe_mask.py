"""Stripes of every picture are missing: as wide, as dense and as shifted as is drawn for each."""

from typing import Literal

import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask

LINES = ("rows", "columns", "either")


class StripeMask(Degradation):
    """y = M * x with M = 0 where (line + shift) mod period < round(missing * period); missing pixels read 0, which is
    mid-grey.

    Period, shift and direction are drawn for each image. Of every second line see alternate_lines.

    Args:
        least: smallest period in lines, at least 2.
        most: largest period, of which each image's is drawn uniformly from least..most.
        missing: share of each period that is missing, between 0 and 1; at least one line of it is, and one is known.
        lines: "rows", "columns", or "either", drawn for each image.

    Raises:
        UserError: options out of range, and images with fewer lines than the largest period.
    """

    def __init__(
        self,
        *,
        least: int = 2,
        most: int = 8,
        missing: float = 0.5,
        lines: Literal["rows", "columns", "either"] = "either",
    ) -> None:
        if least < 2 or most < least:
            raise UserError(f"least must be at least 2 and most at least least, got {least} and {most}")
        if not 0 < missing < 1:
            raise UserError(f"missing must be a share between 0 and 1, got {missing}")
        if lines not in LINES:
            raise UserError(f"lines must be one of {', '.join(LINES)}, got '{lines}'")
        self.least, self.most, self.missing, self.lines = least, most, missing, lines

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        height, width = shape[1:]
        sides = {"rows": (height,), "columns": (width,), "either": (height, width)}[self.lines]
        if min(sides) < self.most:
            raise UserError(
                f"stripes with a period of up to {self.most} lines need as many, the images have {height}x{width}:"
                " choose a smaller most"
            )
        generator = random.generator("mask", index)
        period = int(generator.integers(self.least, self.most + 1))
        shift = int(generator.integers(period))
        rows = self.lines == "rows" or (self.lines == "either" and bool(generator.integers(2)))
        lost = min(max(round(self.missing * period), 1), period - 1)
        known = ((torch.arange(height if rows else width) + shift) % period >= lost).float()
        return {"mask": (known[:, None] if rows else known).expand(1, height, width).contiguous()}

    def bind(self, params: Params, shape: Shape) -> Mask:
        return Mask(params["mask"], channels=shape[0], description=f"mask, stripes of {self.lines} missing")
