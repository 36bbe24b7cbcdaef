"""Super-resolution from block averages: the sensor with larger pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape
from degradations.factor import check_divides, check_factor
from degradations.separable import sandwich


class AveragePooling(Operator):
    """y = mean of each f x f block; A^T y spreads y / f^2 over its block, A^+ y = f^2 A^T y replicates it.

    Args:
        factor: f, divides both sides of shape (C, H, W) (else UserError). All singular values are 1 / f, one per block.
            V: the two-dimensional cosine basis (DCT-II, orthonormal) of each block, whose first vector is the constant
            1 / f; U = I.
    """

    def __init__(self, factor: int, shape: Shape) -> None:
        check_factor(factor)
        check_divides(factor, shape)
        channels, height, width = shape
        self.factor = factor
        self.input_shape = (channels, height, width)
        self.output_shape = (channels, height // factor, width // factor)
        self.description = f"average pooling x{factor}"

    def __call__(self, x: Images) -> Measurements:
        return F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Measurements) -> Images:
        return self.pseudo_inverse(y) / self.factor**2

    def pseudo_inverse(self, y: Measurements) -> Images:
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    @property
    def svd(self) -> SVD:
        """Coefficients [C, H/f, W/f, f^2], flattened; the first of the last axis is the block's mean times f."""
        f, (channels, height, width) = self.factor, self.output_shape
        basis = _cosine_basis(f)
        values = torch.zeros(channels, height, width, f * f, dtype=torch.float64)
        values[..., 0] = 1 / f

        def vt(x: Tensor) -> Tensor:
            blocks = x.reshape(-1, channels, height, f, width, f).transpose(3, 4)
            return sandwich(basis, blocks, basis).flatten(1)

        def v(c: Tensor) -> Tensor:
            blocks = sandwich(basis.mT, c.reshape(-1, channels, height, width, f, f), basis.mT)
            return blocks.transpose(3, 4).reshape(-1, *self.input_shape)

        def u(c: Tensor) -> Tensor:
            return c.reshape(-1, channels, height, width, f * f)[..., 0]

        def ut(y: Tensor) -> Tensor:
            return F.pad(y[..., None], (0, f * f - 1)).flatten(1)

        return SVD(values.flatten(), v=v, vt=vt, u=u, ut=ut)

    def norm(self) -> float:
        return 1 / self.factor


class AveragePool(Degradation):
    """y = mean of each factor x factor block: [C, H, W] to [C, H / factor, W / factor].

    Args:
        factor: f, divides both sides of the image (else UserError, with the divisors); any channels, square or not.
    """

    def __init__(self, *, factor: int) -> None:
        check_factor(factor)
        self.factor = factor

    def clean_shape(self, measured: Shape) -> Shape:
        channels, height, width = measured
        return (channels, self.factor * height, self.factor * width)

    def bind(self, params: Params, shape: Shape) -> AveragePooling:
        del params
        return AveragePooling(self.factor, shape)


def _cosine_basis(n: int) -> Tensor:
    """D[m, i] = c_m cos(pi m (2 i + 1) / (2 n)), c_0 = sqrt(1/n), else sqrt(2/n): orthonormal DCT-II, float64
    [n, n].
    """
    i, m = torch.arange(n, dtype=torch.float64), torch.arange(n, dtype=torch.float64)[:, None]
    basis = torch.cos(torch.pi * m * (2 * i + 1) / (2 * n)) * (2 / n) ** 0.5
    basis[0] = (1 / n) ** 0.5
    return basis
