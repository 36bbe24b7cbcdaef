"""Super-resolution from a windowed sinc, the downsampler of the deep image prior."""

from functools import lru_cache

import torch
from torch import Tensor

from common.errors import UserError
from degradations.base import Degradation, Params, Shape
from degradations.factor import check_divides, check_factor
from degradations.separable import Axis, Separable


def lanczos(t: Tensor, lobes: int) -> Tensor:
    """w(t) = sinc(t) sinc(t / a) for |t| < a, else 0, with sinc(t) = sin(pi t) / (pi t) and a = lobes (Lanczos; Duchon
    1979).
    """
    return torch.where(t.abs() < lobes, torch.sinc(t) * torch.sinc(t / lobes), 0.0)


@lru_cache(maxsize=16)
def lanczos_axis(side: int, factor: int, lobes: int, phase: float) -> Axis:
    """R[i, clamp(j, 0, side - 1)] += w((j - c_i) / f), rows scaled to sum 1: [side / f, side].

    phase 1/2: c_i = (i + 1/2) f - 1/2 is the middle of block i; 2 a f taps where f is even. phase 0: c_i = i f +
    floor(f / 2) is a pixel; 2 a f + 1 taps, of which the outermost two are zeros of w. The border pixel is read for
    whatever lies beyond it (replication).
    """
    blocks = torch.arange(side // factor, dtype=torch.float64) * factor
    centres = blocks + (factor - 1) / 2 if phase == 0.5 else blocks + factor // 2
    positions = torch.ceil(centres - lobes * factor).long()[:, None] + torch.arange(2 * lobes * factor + 1)
    weights = lanczos((positions - centres[:, None]) / factor, lobes)
    matrix = torch.zeros(len(centres), side, dtype=torch.float64)
    matrix.scatter_add_(1, positions.clamp(0, side - 1), weights)
    return Axis.of(matrix / matrix.sum(1, keepdim=True))


class Lanczos(Degradation):
    """Y = R X C^T with R, C Lanczos downsampling by `factor`: [C, H, W] to [C, H / factor, W / factor].

    factor f divides both sides (else UserError with the divisors). lobes a: 2 or 3.

    Negative lobes overshoot: `output_range` is wider than [-1, 1]. Well conditioned: the pseudo-inverse is exact.
    Ulyanov et al. 2018 (1711.10925): lobes 2, phase 0.5, the border replicated.

    Args:
        factor: of reduction f; divides height and width, else UserError with the divisors.
        lobes: a, 2 or 3: the kernel reaches a f pixels to both sides (default 2, Ulyanov et al. 2018).
        phase: 0.5: output pixels in the middle of f x f blocks; 0: on a pixel.
    """

    def __init__(self, *, factor: int, lobes: int = 2, phase: float = 0.5) -> None:
        check_factor(factor)
        if lobes not in (2, 3):
            raise UserError(f"lobes must be 2 or 3, got {lobes}")
        if phase not in (0, 0.5):
            raise UserError(f"phase must be 0.5 (the middle of a block) or 0 (a pixel), got {phase}")
        self.factor, self.lobes, self.phase = factor, lobes, float(phase)

    def clean_shape(self, measured: Shape) -> Shape:
        channels, height, width = measured
        return (channels, self.factor * height, self.factor * width)

    def bind(self, params: Params, shape: Shape) -> Separable:
        del params
        check_divides(self.factor, shape)
        rows, columns = (lanczos_axis(side, self.factor, self.lobes, self.phase) for side in shape[1:])
        description = f"Lanczos-{self.lobes} downsampling x{self.factor}"
        return Separable(rows, columns, channels=shape[0], threshold=1e-6, description=description)
