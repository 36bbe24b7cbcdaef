"""Gaussian blur as cameras and image libraries do it: pixels beyond the border mirror those inside."""

from functools import lru_cache

import torch

from degradations.base import Degradation, Params, Shape
from degradations.gaussian import check_blur, gaussian_taps
from degradations.separable import Axis, Separable, stencil_matrix


@lru_cache(maxsize=16)
def gaussian_axis(side: int, std: float) -> Axis:
    """R[i, reflected(i + o)] += k[o]: the blur of `side` pixels by a Gaussian k of `std` pixels; symmetric, rows and
    columns sum to 1.

    The border is half-sample symmetric (d c b a | a b c d | d c b a): scipy.ndimage.gaussian_filter1d with its default
    mode "reflect", truncate 4. R is diagonal in the discrete cosine basis (DCT-II), with the values sum_o k[o] cos(pi m
    o / side), m = 0..side-1.
    """
    taps = gaussian_taps(std)
    radius = len(taps) // 2
    positions = torch.arange(side)[:, None] + torch.arange(-radius, radius + 1)
    return Axis.of(stencil_matrix(positions, taps.expand(side, -1), side))


class ReflectingGaussianBlur(Degradation):
    """Y = R X C^T with R, C blurs by a 1-D Gaussian of `std` pixels, truncated at radius int(4 std + 0.5), sum 1;
    borders reflect.

    Args:
        std: in pixels; any image side, also sides below the kernel's.
        threshold: products of 1-D singular values up to this are taken for zero by the pseudo-inverse (3e-2, as in
            DDRM, Kawar et al. 2022), which thus amplifies noise by at most 1 / threshold.

    Raises:
        UserError: where std <= 0.
    """

    def __init__(self, *, std: float, threshold: float = 3e-2) -> None:
        check_blur(std, threshold)
        self.std, self.threshold = float(std), threshold

    def bind(self, params: Params, shape: Shape) -> Separable:
        del params
        rows, columns = gaussian_axis(shape[1], self.std), gaussian_axis(shape[2], self.std)
        description = f"Gaussian blur (reflecting), std {self.std:g}"
        return Separable(rows, columns, channels=shape[0], threshold=self.threshold, description=description)
