"""Blur along a crooked way: a hand that shakes while the shutter is open."""

import numpy as np
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Params, Shape
from degradations.motion_blur import drawn
from degradations.reflecting_convolution import check_boundary, convolution

POINTS = 2000
LARGEST = 255


class CameraShake(Degradation):
    """y = k * x, k the time that a smooth random walk spends in each pixel, sum 1.

    The walk's velocity is an autoregressive process (Ornstein and Uhlenbeck) in two dimensions; the way is centred at
    its mean and scaled so that it reaches `size` // 2 pixels from there.

    Args:
        size: the kernel's side in pixels, odd, 3 to 255.
        smoothness: how long the velocity keeps its direction, as a share of the exposure, positive: 0.05 is a tangle, 1
            nearly a straight line.
        shake_seed: the kernel of this number, the same for all images; null draws one for each image.
        boundary: "reflecting" (pixels beyond the border mirror those inside, as in photographs) or "circular" (which
            has a closed-form solution, and is faster).
        threshold: singular values up to this are taken for zero by the pseudo-inverse, or damped.

    Raises:
        UserError: options out of range; when bound, a circular kernel larger than the image.
    """

    def __init__(
        self,
        *,
        size: int = 31,
        smoothness: float = 0.2,
        shake_seed: int | None = None,
        boundary: str = "reflecting",
        threshold: float = 3e-2,
    ) -> None:
        check_boundary(boundary, threshold)
        if not 3 <= size <= LARGEST or size % 2 == 0:
            raise UserError(f"size must be an odd number of pixels from 3 to {LARGEST}, got {size}")
        if not 0 < smoothness < float("inf"):
            raise UserError(f"smoothness must be positive, got {smoothness}")
        if shake_seed is not None and shake_seed < 0:
            raise UserError(f"shake_seed must be at least 0, or null to draw a kernel for each image, got {shake_seed}")
        self.size, self.smoothness, self.shake_seed = size, smoothness, shake_seed
        self.boundary, self.threshold = boundary, threshold

    @property
    def draws(self) -> bool:
        return self.shake_seed is None

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        if self.shake_seed is not None:
            return {}
        return {"kernel": shaken(random.generator("camera shake", index), self.size, self.smoothness)}

    def bind(self, params: Params, shape: Shape) -> Operator:
        kernel, named = params.get("kernel"), "drawn"
        if kernel is None:
            kernel = shaken(
                RandomStreams(self.shake_seed or 0).generator("camera shake", 0), self.size, self.smoothness
            )
            named = f"number {self.shake_seed}"
        description = f"camera shake {named}, {self.size}x{self.size} pixels"
        return convolution(kernel, shape, boundary=self.boundary, threshold=self.threshold, description=description)


def shaken(generator: np.random.Generator, size: int, smoothness: float) -> Tensor:
    """A kernel [size, size], float64, sum 1."""
    keep = np.exp(-1 / (smoothness * POINTS))
    kicks = generator.standard_normal((POINTS, 2))
    velocity = np.empty((POINTS, 2))
    velocity[0] = kicks[0]
    for i in range(1, POINTS):
        velocity[i] = keep * velocity[i - 1] + np.sqrt(1 - keep**2) * kicks[i]
    way = velocity.cumsum(0)
    way -= way.mean(0)
    radius = size // 2 - 1
    return drawn(way * radius / np.abs(way).max() if radius else 0 * way, radius)
