"""Blur along a straight line: the camera or the scene moved evenly while the shutter was open."""

import math

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Params, Shape
from degradations.reflecting_convolution import check_boundary, convolution

POINTS = 32  # along each pixel of the way
LONGEST = 255


class MotionBlur(Degradation):
    """y = k * x, k a segment of `length` pixels through the middle at `angle`, drawn with linear weights, sum 1.

    Args:
        length: of the way in pixels, at most 255; 1 spreads over neighbours a little at angles between the axes.
        angle: in degrees from the horizontal, counter-clockwise; null draws one for each image, between 0 and 180.
        boundary: "reflecting" (pixels beyond the border mirror those inside, as in photographs) or "circular" (which
            has a closed-form solution, and is faster).
        threshold: singular values up to this are taken for zero by the pseudo-inverse, or damped.

    Raises:
        UserError: options out of range; when bound, a circular kernel larger than the image.
    """

    def __init__(
        self, *, length: float, angle: float | None = 0.0, boundary: str = "reflecting", threshold: float = 3e-2
    ) -> None:
        check_boundary(boundary, threshold)
        if not 0 < length <= LONGEST:
            raise UserError(f"length must be a positive number of pixels up to {LONGEST}, got {length}")
        if angle is not None and not math.isfinite(angle):
            raise UserError(f"angle must be a finite number of degrees, or null to draw one, got {angle}")
        self.length, self.angle, self.boundary, self.threshold = length, angle, boundary, threshold

    @property
    def draws(self) -> bool:
        return self.angle is None

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        if self.angle is not None:
            return {}
        return {"angle": torch.tensor(180 * random.generator("motion blur", index).random(), dtype=torch.float64)}

    def bind(self, params: Params, shape: Shape) -> Operator:
        angles = params["angle"].tolist() if "angle" in params else [self.angle or 0.0]
        kernel = torch.stack([line(self.length, angle) for angle in angles])
        named = f"{self.angle:g} degrees" if self.angle is not None else "a drawn angle"
        side = kernel.shape[-1]
        description = f"motion blur over {self.length:g} pixels at {named}, {side}x{side} pixels"
        return convolution(kernel, shape, boundary=self.boundary, threshold=self.threshold, description=description)


def line(length: float, angle: float) -> Tensor:
    """The kernel [k, k], k odd and the same for every angle, float64, sum 1: rows count downwards."""
    turn = math.radians(angle)
    way = (np.arange(max(1, round(POINTS * length))) + 0.5) / max(1, round(POINTS * length)) - 0.5
    return drawn(way[:, None] * length * np.array([-math.sin(turn), math.cos(turn)]), math.ceil(length / 2))


def drawn(points: np.ndarray, radius: int) -> Tensor:
    """Points [N, 2] (rows, columns from the middle), each spread linearly over its four neighbours, as a kernel of
    radius `radius` or one more, float64, sum 1.
    """
    side = 2 * (radius + 1) + 1
    kernel = np.zeros((side, side))
    whole = np.floor(points).astype(int)
    share = points - whole
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - share[:, 0]) * np.abs(1 - right - share[:, 1])
            np.add.at(kernel, (whole[:, 0] + down + radius + 1, whole[:, 1] + right + radius + 1), weight)
    return torch.from_numpy(kernel / kernel.sum())
