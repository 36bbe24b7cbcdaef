"""Free-form inpainting: somebody scribbled over every picture with a thin or with a thick brush."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask

SIDE = 256  # lengths and widths below are in pixels of a picture whose shorter side has so many
TRIES = 100


@dataclass(frozen=True)
class Brush:
    """How it scribbles: ranges that are drawn from uniformly, ends included.

    Args:
        strokes: how many.
        width: in pixels of a picture with a shorter side of 256.
        length: of a straight piece, in the same pixels.
    """

    strokes: tuple[int, int]
    width: tuple[float, float]
    length: tuple[float, float]


BRUSHES = {
    "thin": Brush(strokes=(4, 50), width=(5, 14), length=(10, 49)),
    "thick": Brush(strokes=(1, 5), width=(5, 104), length=(10, 209)),
}
PIECES = 5  # of a stroke, at most
TURN = 4.0  # radians


class StrokeMask(Degradation):
    """y = M * x with M = 0 under strokes of a round brush, drawn for each image; missing pixels read 0, which is
    mid-grey.

    A stroke begins anywhere and has one to five straight pieces, each with a length, a width and a direction of its
    own (0 to 4 radians from downwards, of every other stroke to the other side), and stops at the border. Lengths and
    widths are those of 256x256 pixels, scaled with the shorter side; no piece is thinner than a pixel. Drawn again
    where more than `most` of the picture is missing.

    Args:
        kind: thin: 4 to 50 strokes, 5 to 14 of 256 pixels wide; thick: 1 to 5 strokes, 5 to 104 wide.
        most: the largest share of the pixels that may be missing, in (0, 1).

    Raises:
        UserError: options out of range, and images so small that every stroke covers more than `most`.

    Source: the thin and thick masks of LaMa (Suvorov et al. 2022, 2109.07161), which RePaint takes. LaMa has four
    directions to each side where these are continuous, and in 3 of 13 thick masks boxes instead of strokes.
    """

    def __init__(self, *, kind: Literal["thin", "thick"] = "thin", most: float = 0.5) -> None:
        if kind not in BRUSHES:
            raise UserError(f"kind must be one of {', '.join(BRUSHES)}, got '{kind}'")
        if not 0 < most < 1:
            raise UserError(f"most must be a share of the pixels between 0 and 1, got {most}")
        self.kind, self.most = kind, most

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        generator = random.generator("mask", index)
        for _ in range(TRIES):
            missing = scribbled(generator, BRUSHES[self.kind], shape[1], shape[2])
            if missing.mean() <= self.most:
                return {"mask": torch.from_numpy(1 - missing.astype(np.float32))[None]}
        raise UserError(
            f"no {self.kind} strokes left {1 - self.most:.2g} of an image of {shape[1]}x{shape[2]} pixels known: choose"
            " a larger most, or larger images"
        )

    def bind(self, params: Params, shape: Shape) -> Mask:
        return Mask(params["mask"], channels=shape[0], description=f"mask, {self.kind} strokes missing")


def scribbled(generator: np.random.Generator, brush: Brush, height: int, width: int) -> np.ndarray:
    """bool [height, width], True under the strokes."""
    scale = min(height, width) / SIDE
    missing = np.zeros((height, width), dtype=bool)
    for stroke in range(int(generator.integers(brush.strokes[0], brush.strokes[1] + 1))):
        start = (float(generator.integers(height)), float(generator.integers(width)))
        for _ in range(int(generator.integers(1, PIECES + 1))):
            angle = generator.uniform(0, TURN) * (1 if stroke % 2 else -1)
            length, thickness = generator.uniform(*brush.length) * scale, generator.uniform(*brush.width) * scale
            row, column = start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)
            end = (min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0))
            cover(missing, start, end, max(thickness, 1.0) / 2)
            start = end
    return missing


def cover(missing: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """Set the pixels (row, column) whose middles are at most `radius` from the segment, within the array's borders."""
    near = [
        slice(max(math.floor(min(a, b) - radius), 0), min(math.ceil(max(a, b) + radius) + 1, side))
        for a, b, side in zip(start, end, missing.shape, strict=True)
    ]
    rows = np.arange(near[0].start, near[0].stop)[:, None] - start[0]
    columns = np.arange(near[1].start, near[1].stop) - start[1]
    down, right = end[0] - start[0], end[1] - start[1]
    along = (rows * down + columns * right) / max(down * down + right * right, 1e-12)
    along = np.minimum(np.maximum(along, 0), 1)
    missing[near[0], near[1]] |= (rows - along * down) ** 2 + (columns - along * right) ** 2 <= radius * radius
