"""Super-resolution from bicubic downsampling, the standard degradation of the super-resolution literature."""

from functools import lru_cache

import torch
from torch import Tensor

from degradations.base import Degradation, Params, Shape
from degradations.factor import check_divides, check_factor
from degradations.separable import Axis, Separable, stencil_matrix


def cubic(t: Tensor) -> Tensor:
    """1.5 |t|^3 - 2.5 t^2 + 1 for |t| <= 1, -0.5 |t|^3 + 2.5 t^2 - 4 |t| + 2 for |t| < 2, else 0 (a = -1/2,
    Keys 1981).
    """
    t = t.abs()
    inner = (1.5 * t - 2.5) * t * t + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0.0))


@lru_cache(maxsize=16)
def bicubic_axis(side: int, factor: int) -> Axis:
    """R[i, reflected(j)] += cubic((j - c_i) / f) / f, c_i = (i + 1/2) f - 1/2, rows scaled to sum 1: [side / f, side].

    Antialiased: the kernel is as wide as 4 output pixels. Aligned by half pixels: output pixel i is the middle of its
    block. The border is half-sample symmetric, as in MATLAB's imresize; torch and Pillow cut the kernel there instead,
    so that the outermost output pixels differ.
    """
    centres = (torch.arange(side // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    positions = torch.ceil(centres - 2 * factor).long()[:, None] + torch.arange(4 * factor + 1)
    return Axis.of(stencil_matrix(positions, cubic((positions - centres[:, None]) / factor), side))


class Bicubic(Degradation):
    """Y = R X C^T with R, C antialiased cubic downsampling (a = -1/2) by `factor`: [C, H, W] to [C, H / factor, W /
    factor].

    factor divides both sides (else UserError with the divisors). The cubic's negative lobes let sharp edges overshoot:
    `output_range` is wider than [-1, 1]. Well conditioned: the pseudo-inverse is exact. Source: the "Resizer" of
    Shocher, used by DPS and DAPS; DDRM's bicubic matrices.

    Args:
        factor: of reduction; divides height and width, else UserError with the divisors.
    """

    def __init__(self, *, factor: int) -> None:
        check_factor(factor)
        self.factor = factor

    def clean_shape(self, measured: Shape) -> Shape:
        channels, height, width = measured
        return (channels, self.factor * height, self.factor * width)

    def bind(self, params: Params, shape: Shape) -> Separable:
        del params
        check_divides(self.factor, shape)
        rows, columns = bicubic_axis(shape[1], self.factor), bicubic_axis(shape[2], self.factor)
        return Separable(
            rows, columns, channels=shape[0], threshold=1e-6, description=f"bicubic downsampling x{self.factor}"
        )
