"""Operators that act on the rows and the columns of an image one after the other, by two small matrices."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator, Shape


@dataclass(frozen=True)
class Axis:
    """R = U diag(s) V^T along one axis of the image: matrix [m, n], u [m, k], s [k] (largest first), v [n, n], k =
    min(m, n), all float64.

    The last n - k columns of V, and those of vanishing s, span what R loses. Dense: milliseconds up to n = 256, so
    build it once.
    """

    matrix: Tensor
    u: Tensor
    s: Tensor
    v: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> "Axis":
        """The axis of a matrix [m, n] and its singular value decomposition."""
        matrix = matrix.detach().double()
        u, s, vt = torch.linalg.svd(matrix, full_matrices=True)
        return cls(matrix, u[:, : len(s)].contiguous(), s, vt.mT.contiguous())

    @cached_property
    def gain(self) -> float:
        """max_i sum_j |R_ij|: the largest output for inputs in [-1, 1]."""
        return float(self.matrix.abs().sum(1).max())

    def to(self, device: torch.device | str) -> "Axis":
        return Axis(*(t.to(device) for t in (self.matrix, self.u, self.s, self.v)))


class Separable(Operator):
    """A X = R X C^T for every channel X [H, W]; A^T Y = R^T Y C.

    Args:
        rows: R, [h, H], acts along the height.
        columns: C, [w, W], acts along the width: matrices, or an `Axis` that is built once for many operators.
        threshold: tau; A^+ Y = V_R ((U_R^T Y U_C) / S) V_C^T, where S = s_R s_C^T holds the products of 1-D singular
            values and 1/S is 0 where S <= tau: the Moore-Penrose inverse of the operator truncated at tau, the exact
            A^+ where nothing but rounding errors lies below tau.
    """

    def __init__(
        self,
        rows: Tensor | Axis,
        columns: Tensor | Axis,
        *,
        channels: int,
        threshold: float,
        description: str = "separable operator",
    ) -> None:
        self._rows = rows if isinstance(rows, Axis) else Axis.of(rows)
        self._columns = columns if isinstance(columns, Axis) else Axis.of(columns)
        self.input_shape: Shape = (channels, self._rows.matrix.shape[1], self._columns.matrix.shape[1])
        self.output_shape: Shape = (channels, self._rows.matrix.shape[0], self._columns.matrix.shape[0])
        self.threshold = threshold
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        return sandwich(self._rows.matrix, x, self._columns.matrix)

    def adjoint(self, y: Measurements) -> Images:
        return sandwich(self._rows.matrix.mT, y, self._columns.matrix.mT)

    def pseudo_inverse(self, y: Measurements) -> Images:
        rows, columns = self._rows, self._columns
        values = torch.outer(rows.s, columns.s)
        inverse = torch.where(values > self.threshold, values, torch.inf).reciprocal().to(y)
        coefficients = sandwich(rows.u.mT, y, columns.u.mT) * inverse
        return sandwich(rows.v[:, : len(rows.s)], coefficients, columns.v[:, : len(columns.s)])

    @property
    def svd(self) -> SVD:
        """Coefficients are images too: row i and column j belong to the product of the i-th and the j-th 1-D singular
        value.
        """
        rows, columns = self._rows, self._columns
        height, width = len(rows.s), len(columns.s)
        values = rows.s.new_zeros(self.input_shape)
        values[:, :height, :width] = torch.outer(rows.s, columns.s)
        positive = values[0, :height, :width] > 0

        def v(c: Tensor) -> Tensor:
            return sandwich(rows.v, c.unflatten(1, self.input_shape), columns.v)

        def vt(x: Tensor) -> Tensor:
            return sandwich(rows.v.mT, x, columns.v.mT).flatten(1)

        def u(c: Tensor) -> Tensor:
            return sandwich(rows.u, c.unflatten(1, self.input_shape)[:, :, :height, :width], columns.u)

        def ut(y: Tensor) -> Tensor:
            c = y.new_zeros(len(y), *self.input_shape)
            c[:, :, :height, :width] = sandwich(rows.u.mT, y, columns.u.mT) * positive
            return c.flatten(1)

        return SVD(values.flatten(), v=v, vt=vt, u=u, ut=ut)

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ (max row sum of |R|) (max row sum of |C|), reached by an image of signs; 1 where no weight is negative and
        rows sum to 1.
        """
        gain = self._rows.gain * self._columns.gain
        return (-gain, gain)

    def norm(self) -> float:
        """The product of the largest 1-D singular values, exact."""
        return float(self._rows.s[0] * self._columns.s[0])

    def to(self, device: torch.device | str) -> "Separable":
        self._rows, self._columns = self._rows.to(device), self._columns.to(device)
        return self


def reflected(positions: Tensor, side: int) -> Tensor:
    """Where a pixel beyond the border is read: (d c b a | a b c d | d c b a), the border pixel twice, over and over
    again.

    This is scipy.ndimage's "reflect", numpy.pad's "symmetric"; torch's "reflect" does not repeat the border pixel,
    which is scipy's "mirror".
    """
    positions = positions.remainder(2 * side)
    return torch.minimum(positions, 2 * side - 1 - positions)


def stencil_matrix(positions: Tensor, weights: Tensor, side: int) -> Tensor:
    """R[i, reflected(positions[i, t])] += weights[i, t], then each row scaled to sum 1: float64 [m, side].

    positions: int64 [m, taps], may lie beyond the border 0..side-1. weights: [m, taps].
    """
    matrix = torch.zeros(len(positions), side, dtype=torch.float64)
    matrix.scatter_add_(1, reflected(positions, side), weights.double())
    return matrix / matrix.sum(1, keepdim=True)


def sandwich(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """left x right^T in the dtype of x; under autocast too, whose half precision would be taken for a misfit of the
    measurement.
    """
    with torch.autocast(x.device.type, enabled=False):
        return left.to(x) @ x @ right.to(x).mT
