"""Box inpainting: a rectangle of every image is missing."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask


class BoxMask(Degradation):
    """y = M * x with M = 0 on a box, one box per image; missing pixels read 0, which is mid-grey.

    Args:
        size: side of a square box in pixels.
        most: largest side, together with size, which is the smallest one then: each image's is drawn uniformly from
            size..most; null: all have one size.
        height: of a rectangle in pixels, together with width, instead of size; null: half of the image's height.
        width: of a rectangle in pixels, together with height; null: half of the image's width.
        margin: least distance between the box and the image border in pixels; default 1/16 of the side (16 of 256, 2 of
            28), less where the box is too large for that.
        place: "random" draws the place of each image uniformly from its own stream ("mask"); "center" is the middle,
            rounded to the upper left.
        top: first row of the box, from 0, together with left, instead of margin and place: the mouth of faces that are
            all cropped alike.
        left: its first column, together with top.

    Raises:
        UserError: sizes that are not positive or contradict each other, and where box and margins do not fit into the
            image.

    Source: the setting of DPS (Chung et al. 2023) and DAPS, 128x128 boxes of 256x256 images with margin 16 or 32.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        margin: int | None = None,
        place: Literal["random", "center"] = "random",
        top: int | None = None,
        left: int | None = None,
        most: int | None = None,
    ) -> None:
        if size is not None and (height is not None or width is not None):
            raise UserError(f"give either size or height and width, got size={size}, height={height}, width={width}")
        if (height is None) != (width is None):
            raise UserError(
                f"height and width are given together, got height={height}, width={width}; for a square box use size"
            )
        for name, value, least in (
            ("size", size, 1),
            ("height", height, 1),
            ("width", width, 1),
            ("margin", margin, 0),
            ("top", top, 0),
            ("left", left, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
        if place not in ("random", "center"):
            raise UserError(f"place must be 'random' or 'center', got '{place}'")
        if (top is None) != (left is None) or (top is not None and (margin is not None or place != "random")):
            raise UserError(
                f"top and left are given together and instead of margin and place, got top={top}, left={left},"
                f" margin={margin}, place={place}"
            )
        if most is not None and (size is None or most < size or top is not None):
            raise UserError(
                f"most is given together with size, which it is not below, and without top and left, got most={most},"
                f" size={size}, top={top}"
            )
        self.top, self.left, self.most = top, left, most
        self.height, self.width = (size, size) if size is not None else (height, width)
        self.margin, self.place = margin, place

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        generator = random.generator("mask", index)
        height, width = self.height, self.width
        if self.most is not None and height is not None:
            room = min(shape[1:]) - 2 * (self.margin or 0)
            if self.most > room:
                raise UserError(
                    f"most must be at most {room} for a {shape[1]}x{shape[2]} picture with margin {self.margin or 0},"
                    f" got {self.most}"
                )
            height = width = int(generator.integers(height, self.most + 1))
        top, height = self._span(shape[1], height, "height", self.top, generator)
        left, width = self._span(shape[2], width, "width", self.left, generator)
        mask = torch.ones(1, *shape[1:])
        mask[:, top : top + height, left : left + width] = 0
        return {"mask": mask}

    def bind(self, params: Params, shape: Shape) -> Mask:
        mask: Tensor = params["mask"]
        place = "given" if self.top is not None else self.place
        return Mask(mask, channels=shape[0], description=f"box mask ({place} place)")

    def _span(
        self, side: int, length: int | None, name: str, first: int | None, generator: np.random.Generator
    ) -> tuple[int, int]:
        """First pixel and length of the box along one axis."""
        length = max(1, side // 2) if length is None else length
        if length > side:
            raise UserError(
                f"the {name} of the box is {length}, more than the {side} pixels of the image: choose at most {side}"
            )
        room = side - length
        if first is not None:
            if first > room:
                raise UserError(
                    f"a box of {name} {length} that begins at {first} leaves the {side} pixels of the image: begin at"
                    f" {room} at most"
                )
            return first, length
        margin = min(int(side / 16 + 0.5), room // 2) if self.margin is None else self.margin
        if 2 * margin > room:
            raise UserError(
                f"margin={margin} leaves no place for a box of {name} {length} in {side} pixels: choose at most"
                f" {room // 2}"
            )
        start = int(generator.integers(margin, room - margin + 1)) if self.place == "random" else room // 2
        return start, length
