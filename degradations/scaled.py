"""The operator of a blend with noise: the image at a fraction of its contrast."""

import torch

from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator, Shape
from degradations.diagonal import diagonal_svd


class Scaled(Operator):
    """A = a I for images of shape (C, H, W), 0 < a <= 1; A = A^T, A^+ = I / a, all singular values are a. ValueError
    for another a.
    """

    def __init__(self, scale: float, shape: Shape, *, description: str = "scaled identity") -> None:
        if not 0 < scale <= 1:
            raise ValueError(f"scale must lie in (0, 1], got {scale}")
        self.scale = float(scale)
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        return self.scale * x

    def adjoint(self, y: Measurements) -> Images:
        return self.scale * y

    def pseudo_inverse(self, y: Measurements) -> Images:
        return y / self.scale

    @property
    def svd(self) -> SVD:
        return diagonal_svd(torch.full((1, 1, 1, 1), self.scale, dtype=torch.float64), self.input_shape)

    @property
    def output_range(self) -> tuple[float, float]:
        return (-self.scale, self.scale)

    def norm(self) -> float:
        return self.scale
