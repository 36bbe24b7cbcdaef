"""A = I: nothing but noise is in the way (denoising)."""

import torch

from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape
from degradations.diagonal import diagonal_svd


class IdentityOperator(Operator):
    """A x = x for images of shape (C, H, W); A = A^T = A^+, all singular values are 1."""

    def __init__(self, shape: Shape) -> None:
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = "identity"

    def __call__(self, x: Images) -> Measurements:
        return x

    def adjoint(self, y: Measurements) -> Images:
        return y

    def pseudo_inverse(self, y: Measurements) -> Images:
        return y

    @property
    def svd(self) -> SVD:
        return diagonal_svd(torch.ones(1, 1, 1, 1, dtype=torch.float64), self.input_shape)


class Identity(Degradation):
    """A = I for images of any shape: the measurement is the image plus noise."""

    def bind(self, params: Params, shape: Shape) -> IdentityOperator:
        del params
        return IdentityOperator(shape)
