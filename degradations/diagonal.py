"""The operator of soft masks: every pixel is dimmed by a weight of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator, Shape


def diagonal_svd(weights: Tensor, shape: Shape) -> SVD:
    """Of A = diag(w), w >= 0 of shape [B or 1, 1 or C, H, W] for images of `shape` (C, H, W): V = U = I, the singular
    values are w.
    """

    def flat(x: Tensor) -> Tensor:
        return x.flatten(1)

    def image(c: Tensor) -> Tensor:
        return c.unflatten(1, shape)

    def kept(y: Tensor) -> Tensor:
        check_count(weights, y)
        return flat(y * (weights.to(y.device) > 0))

    values = weights.double().expand(-1, *shape).flatten(1)
    return SVD(values[0] if len(values) == 1 else values, v=image, vt=flat, u=image, ut=kept)


def check_count(weights: Tensor, x: Tensor) -> None:
    """ValueError where the weights of several images meet another number of images, which would be broadcast
    silently.
    """
    if len(weights) not in (1, len(x)):
        raise ValueError(
            f"this operator holds {len(weights)} masks, got {len(x)} images; for several samples per image use repeat"
        )


class Diagonal(Operator):
    """A = diag(w): y = w * x, image-shaped, w in [0, 1]; A = A^T, A^+ = 1 / w where w > threshold and 0 elsewhere.

    Args:
        weights: [B or 1, 1 or C, H, W].
        channels: C of the images.
        threshold: weights up to this are taken for zero by the pseudo-inverse (3e-2, as in DDRM, Kawar et al. 2022).
            `mask` stays None: a dimmed pixel is measured.

    Raises:
        ValueError: where the weights have another shape or range.
    """

    def __init__(
        self, weights: Tensor, *, channels: int, threshold: float = 3e-2, description: str = "soft mask"
    ) -> None:
        if weights.ndim != 4 or weights.shape[1] not in (1, channels):
            raise ValueError(f"weights must have shape [B, 1 or {channels}, H, W], got {list(weights.shape)}")
        self._weights = weights.detach().double()
        if not ((self._weights >= 0) & (self._weights <= 1)).all():
            raise ValueError("weights must lie in [0, 1]")
        self.input_shape = self.output_shape = image_shape((channels, *weights.shape[2:]))
        self.threshold, self.description = threshold, description

    def __call__(self, x: Images) -> Measurements:
        return x * self._for(x)

    def adjoint(self, y: Measurements) -> Images:
        return self(y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        weights = self._for(y)
        return y * torch.where(self._weights.to(y.device) > self.threshold, weights, torch.inf).reciprocal()

    @property
    def svd(self) -> SVD:
        """V = U = I, the singular values are the weights."""
        return diagonal_svd(self._weights, self.input_shape)

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ the largest weight."""
        return (-self.norm(), self.norm())

    def norm(self) -> float:
        """The largest weight, exact."""
        return float(self._weights.max())

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "Diagonal":
        if len(self._weights) == 1:
            return self
        options = {"channels": self.input_shape[0], "threshold": self.threshold, "description": self.description}
        return Diagonal(choose(self._weights), **options)

    def _for(self, x: Tensor) -> Tensor:
        check_count(self._weights, x)
        return self._weights.to(x)
