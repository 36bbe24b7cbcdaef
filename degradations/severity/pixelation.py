"""Pixelation: at every step the image has half as many pixels on a side, shown at its full size."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from degradations.base import Shape
from degradations.severity.base import check_steps
from degradations.severity.separable import SeparableFamily

_STEPS = {"mnist": 3, "cifar10": 3, "celeba_64": 3, "celeba": 4, "generation": 6}


def resize(side: int, other: int, mode: str) -> Tensor:
    """One axis of F.interpolate as a matrix, float64 [other, side]: what it does to the unit vectors, which stand in
    the columns.
    """
    options = {"align_corners": False, "antialias": False} if mode in ("bicubic", "bilinear") else {}
    return F.interpolate(torch.eye(side, dtype=torch.float64)[None, None], size=(other, side), mode=mode, **options)[
        0, 0
    ]


class Pixelation(SeparableFamily):
    """D(x, t): the picture of D(x, t - 1) is made smaller to ceil(side / 2^t) pixels and enlarged by nearest
    neighbours.

    The first reduction is `mode`: "bicubic" (as released: taps -3/32, 19/32, 19/32, -3/32, no antialiasing),
    "bilinear" or "area"; every further step is the mean of 2x2 pixels of the smaller image, which is what resizing
    the enlarged picture by any of the three gives where 2^T divides the sides. Where a side is odd (7 of 28 pixels
    at T = 3) the means overlap by a pixel. D(x, t) depends on x through the small image alone.

    Args:
        data: "mnist" and "cifar10" 3 steps (32 pixels: 4x4 are left; 28 pixels too), "celeba" 4 (128 pixels: 8x8; the
            paper's text has 2x2, steps=6), "celeba_64" 3 (8x8), "generation" 6 (128 pixels: 2x2).
        steps: T instead.
        mode: of the first reduction: "bicubic" (default, as released), "bilinear" or "area" (the mean of each block).
        truncate: see SeparableFamily.

    Raises:
        UserError: where T - 1 steps leave one pixel already.
    """

    def __init__(
        self,
        *,
        data: Literal["mnist", "cifar10", "celeba_64", "celeba", "generation"] = "mnist",
        steps: int | None = None,
        mode: Literal["bicubic", "bilinear", "area"] = "bicubic",
        truncate: bool = False,
    ) -> None:
        super().__init__(truncate=truncate)
        if data not in _STEPS or mode not in ("bicubic", "bilinear", "area"):
            raise UserError(
                f"data must be one of {', '.join(_STEPS)} and mode bicubic, bilinear or area, got '{data}' and '{mode}'"
            )
        self.severities = _STEPS[data] if steps is None else steps
        check_steps("steps", self.severities)
        self.mode = mode
        self.description = f"pixelation ({mode}), {self.severities} halvings"

    def check(self, shape: Shape) -> None:
        if min(shape[1:]) <= 2 ** (self.severities - 1):
            raise UserError(
                f"steps={self.severities} halvings of an image of {shape[1]}x{shape[2]} pixels leave less than one"
                f" pixel: take at most {max(1, (min(shape[1:]) - 1).bit_length())}"
            )

    def side_at(self, side: int, t: int) -> int:
        """ceil(side / 2^t), the pixels that are left of `side`."""
        return -(-side // 2**t)

    def matrices(self, side: int) -> Tensor:
        down = torch.eye(side, dtype=torch.float64)
        matrices = [down]
        for t in range(1, self.severities + 1):
            small = self.side_at(side, t)
            down = resize(len(down), small, self.mode if t == 1 else "area") @ down
            matrices.append(resize(small, side, "nearest-exact") @ down)
        return torch.stack(matrices)
