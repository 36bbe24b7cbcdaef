"""The operator of a fading colour: every pixel is moved towards its own grey."""

import torch
from torch import Tensor

from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator, Shape

# Orthonormal: grey first, then two axes of colour.
_BASIS = (
    torch.tensor([[1, 1, 1], [1, -1, 0], [1, 1, -2]], dtype=torch.float64)
    / torch.tensor([[3], [2], [6]], dtype=torch.float64).sqrt()
)


class ColourMix(Operator):
    """A = a I + (1 - a) P on the three channels of every pixel, P their mean: symmetric, with singular values 1 (grey)
    and a (twice), 0 <= a <= 1.

    Args:
        colour: a, the share of the colour that is kept.
        shape: (3, H, W).
        threshold: a up to this is taken for zero by the pseudo-inverse (3e-2, as in DDRM, Kawar et al. 2022).

    Raises:
        ValueError: other shapes and shares.
    """

    def __init__(
        self, colour: float, shape: Shape, *, threshold: float = 3e-2, description: str = "desaturation"
    ) -> None:
        if shape[0] != 3 or not 0 <= colour <= 1:
            raise ValueError(f"expected three channels and a share of colour in [0, 1], got {shape[0]} and {colour}")
        self.colour, self.threshold, self.description = float(colour), threshold, description
        self.input_shape = self.output_shape = image_shape(shape)

    def __call__(self, x: Images) -> Measurements:
        return self._mix(x, self.colour)

    def adjoint(self, y: Measurements) -> Images:
        return self(y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        return self._mix(y, 1 / self.colour if self.colour > self.threshold else 0.0)

    @property
    def svd(self) -> SVD:
        """The basis of every pixel is grey and two axes of colour: coefficients are images of these three."""
        values = torch.full(self.input_shape, self.colour, dtype=torch.float64)
        values[0] = 1
        kept = torch.tensor([1.0, float(self.colour > 0), float(self.colour > 0)], dtype=torch.float64).view(3, 1, 1)

        def turn(x: Tensor, matrix: Tensor) -> Tensor:
            # half precision would be taken for a misfit of the measurement
            with torch.autocast(x.device.type, enabled=False):
                return torch.einsum("ij,bjhw->bihw", matrix.to(x), x)

        def v(c: Tensor) -> Tensor:
            return turn(c.unflatten(1, self.input_shape), _BASIS.mT)

        def vt(x: Tensor) -> Tensor:
            return turn(x, _BASIS).flatten(1)

        return SVD(values.flatten(), v=v, vt=vt, u=v, ut=lambda y: (turn(y, _BASIS) * kept.to(y)).flatten(1))

    def _mix(self, x: Tensor, colour: float) -> Tensor:
        grey = x.mean(1, keepdim=True)
        return colour * x + (1 - colour) * grey
