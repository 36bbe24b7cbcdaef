"""Colourisation: only a weighted mean of the colours is measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape


class GreyOperator(Operator):
    """y = sum_c w_c x_c per pixel; A^T y = w y, A^+ y = w y / (w.w): a tint of the image's own grey, grey itself for
    equal weights.

    Args:
        weights: w, three numbers, not all zero.
        shape: (3, H, W). The only singular value is ||w||, once per pixel. V: w / ||w|| and two vectors orthogonal to
            it in every pixel (a Householder reflection); U = I.
    """

    def __init__(self, weights: Sequence[float], shape: Shape) -> None:
        if shape[0] != 3 or len(weights) != 3:
            raise ValueError(
                f"grey needs images with 3 channels and 3 weights, got {shape[0]} channels and {len(weights)} weights"
            )
        self._weights = torch.tensor(weights, dtype=torch.float64).view(3, 1, 1)
        self._square = float(self._weights.square().sum())
        if not 0 < self._square < float("inf"):
            raise ValueError(f"weights must be finite and not all zero, got {list(weights)}")
        self._norm = self._square**0.5
        self._gain = float(self._weights.abs().sum())
        self.input_shape = image_shape(shape)
        self.output_shape = (1, *shape[1:])
        self.description = f"grey from colour, weights {', '.join(f'{w:.4g}' for w in weights)}"

    def __call__(self, x: Images) -> Measurements:
        return (x * self._weights.to(x)).sum(1, keepdim=True)

    def adjoint(self, y: Measurements) -> Images:
        return y * self._weights.to(y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        return y * (self._weights / self._square).to(y)

    @property
    def svd(self) -> SVD:
        """Coefficients [3, H, W], flattened; the first channel is measured."""
        basis = _basis_from(self._weights.flatten() / self._norm)
        values = self._weights.new_zeros(self.input_shape)
        values[0] = self._norm

        def vt(x: Tensor) -> Tensor:
            return _mix(basis, x).flatten(1)

        def v(c: Tensor) -> Tensor:
            return _mix(basis.mT, c.unflatten(1, self.input_shape))

        def u(c: Tensor) -> Tensor:
            return c.unflatten(1, self.input_shape)[:, :1]

        def ut(y: Tensor) -> Tensor:
            return torch.cat([y, torch.zeros_like(y), torch.zeros_like(y)], 1).flatten(1)

        return SVD(values.flatten(), v=v, vt=vt, u=u, ut=ut)

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ sum |w|, reached by a saturated colour."""
        return (-self._gain, self._gain)

    def norm(self) -> float:
        """||w||: 0.57735 for weights of 1/3."""
        return self._norm


class Grey(Degradation):
    """y = sum_c weights_c x_c: colour [3, H, W] to grey [1, H, W].

    Args:
        weights: of red, green, blue; default 1/3 each as in DDRM and DDNM; or [0.299, 0.587, 0.114] for luma (ITU-R
            BT.601).

    Raises:
        UserError: where they are not three finite numbers, or all zero, and, when bound, for images that have no three
            channels.
    """

    def __init__(self, *, weights: list[float] | None = None) -> None:
        weights = [1 / 3, 1 / 3, 1 / 3] if weights is None else weights
        if len(weights) != 3 or not 0 < sum(w * w for w in weights) < float("inf"):
            raise UserError(f"weights must be three finite numbers (red, green, blue), not all zero, got {weights}")
        self.weights = tuple(float(w) for w in weights)

    def clean_shape(self, measured: Shape) -> Shape:
        if measured[0] != 1:
            raise UserError(
                f"the grey task restores the colours of a grey picture with 1 channel, this one has {measured[0]}: give"
                " a grey picture"
            )
        return (3, *measured[1:])

    def bind(self, params: Params, shape: Shape) -> GreyOperator:
        del params
        if shape[0] != 3:
            raise UserError(
                f"the grey task needs colour images with 3 channels, these have {shape[0]}: choose colour data, or"
                " another task"
            )
        return GreyOperator(self.weights, shape)


def _basis_from(first: Tensor) -> Tensor:
    """Orthonormal rows [3, 3], the first one is `first` (of length 1): a Householder reflection that swaps it with the
    first axis.
    """
    axis = torch.zeros_like(first)
    axis[0] = 1.0
    sign = -1.0 if float(first[0]) > 0 else 1.0  # reflect onto the farther of +-axis: no cancellation
    normal = first - sign * axis
    reflection = (
        torch.eye(3, dtype=first.dtype, device=first.device) - 2 * torch.outer(normal, normal) / normal.square().sum()
    )
    return sign * reflection


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ the three channels of every pixel."""
    return (matrix.to(x)[:, :, None, None] * x[:, None]).sum(2)
