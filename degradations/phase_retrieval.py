"""Phase retrieval: only the magnitudes of the Fourier transform are measured, as by a detector of diffracted light."""

from typing import Literal

import torch
from torch.nn import functional as F

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import Degradation, Operator, Params, Shape

VALUES = ("unit", "signed")


class FourierMagnitude(Operator):
    """A(x) = |F pad(v)|, v = (x + 1) / 2 or x: F the orthonormal Fourier transform, frequency 0 in the middle. Not
    linear.

    The gradient is that of the magnitude, 0 where the magnitude is 0. A picture turned by half a turn has the same
    measurement, one that is moved on a black border too, and with signed values its negative: no method can tell them
    apart.

    Args:
        shape: (C, H, W) of the images.
        padding: rows and columns of zeros beyond each border.
        unit: whether v is in [0, 1].
    """

    linear = False
    shows_image = False

    def __init__(
        self, shape: Shape, *, padding: tuple[int, int], unit: bool = True, description: str = "phase retrieval"
    ) -> None:
        channels, height, width = shape
        self._padding, self._unit = padding, unit
        self.input_shape = image_shape(shape)
        self.output_shape = (channels, height + 2 * padding[0], width + 2 * padding[1])
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        down, right = self._padding
        values = F.pad((x + 1) / 2 if self._unit else x, (right, right, down, down))
        return torch.fft.fftshift(torch.fft.fft2(values, norm="ortho"), dim=(-2, -1)).abs()

    @property
    def output_range(self) -> tuple[float, float]:
        """0 to H W / sqrt(H' W'), which frequency 0 of a white image has."""
        _, height, width = self.input_shape
        return (0.0, height * width / (self.output_shape[1] * self.output_shape[2]) ** 0.5)

    def norm(self) -> float:
        """Of the derivative: the length of A(x) - A(z) is at most this times that of x - z."""
        return 0.5 if self._unit else 1.0


class PhaseRetrieval(Degradation):
    """y = |F pad(x)|, the magnitudes of the Fourier transform of each channel, continued by zeros: [C, H, W] to
    [C, H + 2 p, W + 2 q], p = int(oversampling H / 8), q = int(oversampling W / 8).

    Args:
        oversampling: at least 0; with 2, as published, the sides are one and a half times as long (256 to 384, 28 to
            42). Magnitudes determine a picture in general, up to a half turn, from sides of twice the length on, which
            is oversampling 4.
        values: unit maps the image to [0, 1] first (DAPS), signed transforms it in [-1, 1] as it is (DPS), where x and
            -x are alike.

    Raises:
        UserError: options out of range, and for a person's own picture, which holds no magnitudes.

    Source: DPS (Chung et al. 2023, 2209.14687), DAPS (Zhang et al. 2024, 2407.01521). They report the best of four
    runs, which a table has to say.
    """

    def __init__(self, *, oversampling: float = 2.0, values: Literal["unit", "signed"] = "unit") -> None:
        if not 0 <= oversampling < float("inf"):
            raise UserError(f"oversampling must be finite and at least 0, got {oversampling}")
        if values not in VALUES:
            raise UserError(f"values must be one of {', '.join(VALUES)}, got '{values}'")
        self.oversampling, self.values = oversampling, values

    def clean_shape(self, measured: Shape) -> Shape:
        raise UserError(
            "phase retrieval begins with Fourier magnitudes, which a picture does not hold: measure true images by"
            " evaluate.py"
        )

    def bind(self, params: Params, shape: Shape) -> FourierMagnitude:
        del params
        height, width = (int(self.oversampling * side / 8) for side in shape[1:])
        description = f"phase retrieval, oversampling {self.oversampling:g}, {self.values} values"
        return FourierMagnitude(shape, padding=(height, width), unit=self.values == "unit", description=description)
