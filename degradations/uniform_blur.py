"""Blur by a square of equal weights: a lens out of focus, roughly."""

import torch

from common.errors import UserError
from degradations.base import Degradation, Operator, Params, Shape
from degradations.reflecting_convolution import check_boundary, convolution
from degradations.separable import Axis, Separable, stencil_matrix

LARGEST = 255


class UniformBlur(Degradation):
    """y = k * x, k of `size` x `size` pixels, all 1 / size^2: a constant image stays as it is.

    With either border there is a singular value decomposition: the square is the product of a row and a column, and
    circular convolution is diagonal in the Fourier basis.

    Args:
        size: of the square in pixels, odd, 1 to 255; 9 of 256 in DDRM, whose released code leaves out the last row and
            column, and so dims the image to 64/81.
        boundary: "reflecting" (pixels beyond the border mirror those inside, as in photographs) or "circular".
        threshold: singular values up to this are taken for zero by the pseudo-inverse (3e-2, as in DDRM).

    Raises:
        UserError: options out of range; when bound, a circular kernel larger than the image.

    Source: DDRM (Kawar et al. 2022, 2201.11793), "uniform deblurring".
    """

    def __init__(self, *, size: int = 9, boundary: str = "reflecting", threshold: float = 3e-2) -> None:
        check_boundary(boundary, threshold)
        if not 1 <= size <= LARGEST or size % 2 != 1:
            raise UserError(f"size must be an odd number of pixels from 1 to {LARGEST}, got {size}")
        self.size, self.boundary, self.threshold = int(size), boundary, threshold

    def bind(self, params: Params, shape: Shape) -> Operator:
        del params
        named = f"uniform blur, {self.size}x{self.size} pixels"
        if self.boundary == "circular":
            kernel = torch.full((self.size, self.size), 1 / self.size**2, dtype=torch.float64)
            return convolution(kernel, shape, boundary=self.boundary, threshold=self.threshold, description=named)
        rows, columns = (_axis(side, self.size) for side in shape[1:])
        named = f"{named} ({self.boundary})"
        return Separable(rows, columns, channels=shape[0], threshold=self.threshold, description=named)


def _axis(side: int, size: int) -> Axis:
    offsets = torch.arange(size) - size // 2
    return Axis.of(stencil_matrix(torch.arange(side)[:, None] + offsets, torch.ones(side, size), side))
