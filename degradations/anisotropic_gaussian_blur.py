"""Gaussian blur that is wider in one direction than in the other."""

import math

import torch
from torch import Tensor

from common.errors import UserError
from degradations.base import Degradation, Operator, Params, Shape
from degradations.reflecting_convolution import check_boundary, convolution

WIDEST = 30.0


class AnisotropicGaussianBlur(Degradation):
    """y = k * x, k ~ exp(-(u / std_1)^2 / 2 - (v / std_2)^2 / 2) along turned axes u and v, cut at 4 of the larger std,
    sum 1.

    Args:
        std: two standard deviations in pixels, positive, at most 30: along the axis and across it.
        angle: of the first axis, in degrees from the horizontal, counter-clockwise.
        boundary: "reflecting" (pixels beyond the border mirror those inside, as in photographs) or "circular" (which
            has a closed-form solution, and is faster).
        threshold: singular values up to this are taken for zero by the pseudo-inverse, or damped.

    Raises:
        UserError: options out of range; when bound, a circular kernel larger than the image.
    """

    def __init__(
        self, *, std: list[float], angle: float = 0.0, boundary: str = "reflecting", threshold: float = 3e-2
    ) -> None:
        check_boundary(boundary, threshold)
        if len(std) != 2 or not all(0 < s <= WIDEST for s in std):
            raise UserError(f"std must be two positive numbers of pixels up to {WIDEST:g}, got {std}")
        if not math.isfinite(angle):
            raise UserError(f"angle must be a finite number of degrees, got {angle}")
        self.std, self.angle = (float(std[0]), float(std[1])), float(angle)
        self.boundary, self.threshold = boundary, threshold

    def bind(self, params: Params, shape: Shape) -> Operator:
        del params
        kernel = gaussian_kernel(self.std, self.angle)
        side = kernel.shape[-1]
        description = (
            f"Gaussian blur, std {self.std[0]:g} at {self.angle:g} degrees and {self.std[1]:g} across, {side}x{side}"
            " pixels"
        )
        return convolution(kernel, shape, boundary=self.boundary, threshold=self.threshold, description=description)


def gaussian_kernel(std: tuple[float, float], angle: float) -> Tensor:
    """The kernel [k, k], k odd, float64, sum 1: rows count downwards."""
    radius, turn = int(4 * max(std) + 0.5), math.radians(angle)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    right, up = offsets[None, :], -offsets[:, None]
    along, across = right * math.cos(turn) + up * math.sin(turn), up * math.cos(turn) - right * math.sin(turn)
    kernel = torch.exp(-0.5 * ((along / std[0]) ** 2 + (across / std[1]) ** 2))
    return kernel / kernel.sum()
