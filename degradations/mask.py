"""The operator of inpainting: keep some pixels, lose the others."""

from collections.abc import Callable

from torch import Tensor

from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator
from degradations.diagonal import check_count, diagonal_svd


class Mask(Operator):
    """A = diag(M): y = M * x, image-shaped, with zeros where pixels are missing; A = A^T = A^+.

    Args:
        mask: [B or 1, 1, H, W] (or [H, W]), 1 where a pixel is measured and 0 where it is missing, shared by the
            channels.
        channels: C of the images. A missing pixel reads 0, which is mid-grey in [-1, 1], also in a noisy measurement:
            `measure` adds noise to measured pixels alone.

    Raises:
        ValueError: where the mask has another shape or values other than 0 and 1.
    """

    def __init__(self, mask: Tensor, *, channels: int, description: str = "mask") -> None:
        mask = mask[None, None] if mask.ndim == 2 else mask
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise ValueError(f"mask must have shape [B, 1, H, W] or [H, W], got {list(mask.shape)}")
        kept = mask == 1
        if not (kept | (mask == 0)).all():
            raise ValueError("mask must hold only 0 (missing) and 1 (measured)")
        self._mask = kept.float()
        self.input_shape = self.output_shape = image_shape((channels, *mask.shape[2:]))
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        check_count(self._mask, x)
        return x * self._mask.to(x)

    def adjoint(self, y: Measurements) -> Images:
        return self(y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        return self(y)

    @property
    def mask(self) -> Tensor:
        return self._mask

    @property
    def keeps_pixels(self) -> bool:
        return True

    @property
    def svd(self) -> SVD:
        """V = U = I, the singular values are the mask."""
        return diagonal_svd(self._mask, self.input_shape)

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "Mask":
        if len(self._mask) == 1:
            return self
        return Mask(choose(self._mask), channels=self.input_shape[0], description=self.description)
