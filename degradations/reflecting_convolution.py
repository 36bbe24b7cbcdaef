"""Convolution with any kernel, pixels beyond the border mirroring those inside: exact adjoint, no closed-form SVD."""

from collections.abc import Callable

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import Operator, Shape
from degradations.circular_blur import CircularBlur
from degradations.linear import pseudo_inverse
from degradations.separable import reflected

BOUNDARIES = ("reflecting", "circular")


class ReflectingConvolution(Operator):
    """A x = (k * E x) inside of the image, E the mirrored continuation (d c b a | a b c d | d c b a); A^T = E^T k^T *.

    By FFT of the continued image. Where k is not symmetric neither the cosine nor the Fourier basis is A's own: there
    is no singular value decomposition, and A^+ is by conjugate gradients.

    Args:
        kernel: [k, l], or [B, k, l] for one kernel per image, centred at (k // 2, l // 2), as in
            :class:`degradations.circular_blur.CircularBlur`; of any size.
        shape: (C, H, W) of the images.
        threshold: at which A^+ damps small singular values (degradations/linear.py).

    Raises:
        ValueError: a kernel of another shape.
    """

    def __init__(
        self, kernel: Tensor, shape: Shape, *, threshold: float = 3e-2, description: str = "reflecting convolution"
    ) -> None:
        kernel = kernel.detach().double()
        kernel = kernel[None] if kernel.ndim == 2 else kernel
        if kernel.ndim != 3 or not kernel.numel():
            raise ValueError(f"kernel must have shape [k, l] or [B, k, l], got {list(kernel.shape)}")
        self.input_shape = self.output_shape = image_shape(shape)
        self.threshold, self.description = threshold, description
        self._margins = (kernel.shape[1] - 1, kernel.shape[2] - 1)
        before = [margin - side // 2 for margin, side in zip(self._margins, kernel.shape[1:], strict=True)]
        self._rows, self._columns = (
            reflected(torch.arange(side + margin) - first, side)
            for side, margin, first in zip(shape[1:], self._margins, before, strict=True)
        )
        self._size = [next_fast_len(side + margin) for side, margin in zip(shape[1:], self._margins, strict=True)]
        self._gain = float(kernel.abs().sum((1, 2)).max())
        # ||A||^2 <= (largest row sum of |A|) (largest column sum of |A|), Schur's test
        self._spectrum = torch.fft.rfft2(kernel.abs(), s=self._size)[:, None]
        columns = self.adjoint(torch.ones(len(kernel), *shape, dtype=torch.float64))
        self._norm = (self._gain * float(columns.max())) ** 0.5
        self._spectrum = torch.fft.rfft2(kernel, s=self._size)[:, None]

    def __call__(self, x: Images) -> Measurements:
        continued = x[..., self._rows, :][..., self._columns]
        found = self._filtered(self._spectrum, continued)
        (top, left), (height, width) = self._margins, x.shape[2:]
        return found[..., top : top + height, left : left + width]

    def adjoint(self, y: Measurements) -> Images:
        (top, left), (height, width) = self._margins, y.shape[2:]
        found = self._filtered(self._spectrum.conj(), F.pad(y, (left, 0, top, 0)))
        found = found[..., : height + top, : width + left]
        folded = found.new_zeros(*found.shape[:2], height, found.shape[3]).index_add(2, self._rows, found)
        return folded.new_zeros(*folded.shape[:3], width).index_add(3, self._columns, folded)

    def pseudo_inverse(self, y: Measurements) -> Images:
        return pseudo_inverse(self, y)

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ sum |kernel|, the largest over the images."""
        return (-self._gain, self._gain)

    def norm(self) -> float:
        return self._norm

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "ReflectingConvolution":
        if len(self._spectrum) == 1:
            return self
        chosen = object.__new__(ReflectingConvolution)
        vars(chosen).update(vars(self))
        chosen._spectrum = choose(self._spectrum)
        return chosen

    def _filtered(self, spectrum: Tensor, x: Tensor) -> Tensor:
        if len(spectrum) not in (1, len(x)):
            raise ValueError(
                f"this operator holds {len(spectrum)} kernels, got {len(x)} images; for several samples per image use"
                " repeat"
            )
        spectrum = spectrum.to(x.device, x.dtype.to_complex())
        return torch.fft.irfft2(spectrum * torch.fft.rfft2(x, s=self._size), s=self._size)


def check_boundary(boundary: str, threshold: float) -> None:
    """UserError where the options that all blurs by a kernel share make no sense."""
    if boundary not in BOUNDARIES:
        raise UserError(f"boundary must be one of {', '.join(BOUNDARIES)}, got '{boundary}'")
    if not 0 <= threshold < 1:
        raise UserError(f"threshold must be at least 0 and below 1, got {threshold}")


def convolution(
    kernel: Tensor, shape: Shape, *, boundary: str, threshold: float, description: str
) -> ReflectingConvolution | CircularBlur:
    """The blur by a kernel [k, l] or [B, k, l] with one of the BOUNDARIES; UserError where a kernel that wraps around
    is larger than the image.
    """
    description = f"{description} ({boundary})"
    if boundary == "reflecting":
        return ReflectingConvolution(kernel, shape, threshold=threshold, description=description)
    height, width = kernel.shape[-2:]
    if height > shape[1] or width > shape[2]:
        raise UserError(
            f"the kernel of {width}x{height} pixels (width x height) is larger than the image of {shape[2]}x{shape[1]}:"
            " choose a smaller one, or boundary reflecting"
        )
    return CircularBlur(kernel, shape, threshold=threshold, description=description)
