"""What is lost in a JPEG file: blocks of 8x8 pixels, their cosine transform, and tables to divide by; bits are not.

With the whole numbers of libjpeg (its accurate integer transform, "islow", and its conversions of colours by multiples
of 2^-16), so that what comes out is what libjpeg and Pillow show, to the last bit. Planes are whole numbers in 0..255
held in float64, which computes with them exactly. ITU-T T.81, annexes A and K; JFIF 1.02 for the colours; Loeffler et
al. 1989 for the transform.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 8
#: ITU-T T.81, tables K.1 and K.2: what the coefficients of quality 50 are divided by.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
#: 2^16 times Y, Cb and Cr, without the 128 that is added to the last two, from red, green and blue; and back.
TO_YCC = torch.tensor([[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]]).double() / 2**16
TO_RGB = torch.tensor([[65536, 0, 91881], [65536, -22554, -46802], [65536, 116130, 0]]).double() / 2**16
#: 2^13 times the cosine transform (DCT-II) of 8 values, scaled by sqrt(8): the second half of each row mirrors the
#: first, with the sign of the row's parity.
_HALF = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
_COSINES = torch.tensor([[*row, *((-v if k % 2 else v) for v in row[::-1])] for k, row in enumerate(_HALF)]).double()


def table(base: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """What libjpeg divides by at a quality from 1 to 100: float64 [8, 8], whole numbers from 1 to 255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return torch.tensor([[min(max((q * scale + 50) // 100, 1), 255) for q in row] for row in base]).double()


def coded(plane: Tensor, divisors: Tensor) -> Tensor:
    """The plane [B, H, W] as it comes out of its quantised blocks; beyond the border the last pixel is repeated."""
    height, width = plane.shape[1:]
    padded = _repeated(plane, -height % SIDE, -width % SIDE) - 128
    divisors, cosines = divisors.to(plane), _COSINES.to(plane)
    blocks = padded.unflatten(2, (-1, SIDE)).unflatten(1, (-1, SIDE)).transpose(2, 3)
    rows = rounded(blocks @ cosines.mT / 2**11)  # with two more bits than pixels have
    eighths = rounded(cosines @ rows / 2**15)
    quantised = eighths.sign() * rounded(eighths.abs() / (8 * divisors))
    columns = rounded(cosines.mT @ (quantised * divisors) / 2**11)
    found = rounded(columns @ cosines / 2**18) + 128
    return found.transpose(2, 3).flatten(3).flatten(1, 2)[:, :height, :width].clamp(0, 255)


def halved(plane: Tensor) -> Tensor:
    """Means of 2x2 pixels of a plane [B, H, W], rounded up and down in turns, as far to the right as its blocks will
    reach: [B, ceil(H / 2), 8 ceil(W / 16)].
    """
    padded = _repeated(plane, plane.shape[1] % 2, -plane.shape[2] % (2 * SIDE))
    sums = 4 * F.avg_pool2d(padded[:, None], 2)[:, 0]
    return ((sums + 1 + torch.arange(sums.shape[2], device=plane.device) % 2) / 4).floor()


def enlarged(plane: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A plane [B, h, w] on the grid of the pixels by :func:`enlarging` of both axes, rounded up and down in turns."""
    found = rows.to(plane) @ plane @ columns.to(plane).mT
    return (found + (8 - torch.arange(found.shape[2], device=plane.device) % 2) / 16).floor()


def enlarging(side: int, *, smooth: bool = True) -> Tensor:
    """The matrix [side, ceil(side / 2)] of libjpeg's "fancy" upsampling, 3/4 of the nearer and 1/4 of the farther of
    two values, the last one repeated beyond the border; without smooth each value twice.
    """
    half = (side + 1) // 2
    positions = torch.arange(side)
    other = (positions // 2 + 2 * (positions % 2) - 1).clamp(0, half - 1)
    matrix = torch.zeros(side, half, dtype=torch.float64)
    matrix[positions, positions // 2] = 0.75 if smooth else 1.0
    matrix[positions, other] += 0.25 if smooth else 0.0
    return matrix


def averaging(side: int) -> Tensor:
    """The matrix [ceil(side / 2), side] of means of two neighbours, of an odd side the last one alone."""
    matrix = torch.zeros((side + 1) // 2, side, dtype=torch.float64)
    matrix[torch.arange(side) // 2, torch.arange(side)] = 1
    return matrix / matrix.sum(1, keepdim=True)


def rounded(values: Tensor) -> Tensor:
    """To the nearest whole number, ties up."""
    return (values + 0.5).floor()


def _repeated(plane: Tensor, down: int, right: int) -> Tensor:
    """The plane [B, H, W] with its last row and column repeated."""
    return F.pad(plane[:, None], (0, right, 0, down), mode="replicate")[:, 0]
