"""A picture to begin from: what was measured, with its holes filled smoothly and enlarged where it is smaller."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.tensor_shapes import Images, Measurements
from degradations.base import Operator

SMOOTHING = 4  # half a decibel for 80 % of holes in photographs; twice as many add 0.02


def first_guess(operator: Operator, y: Measurements) -> Images:
    """An image [B, *input_shape] that looks like y: holes filled from what is around them, a smaller measurement
    enlarged bicubically; one of other colours, or that is no picture, as A^+ gives it.

    Args:
        operator: A, linear.
        y: measurements [B, *output_shape].
    """
    if not operator.shows_image:
        return operator.pseudo_inverse(y)
    mask = operator.mask
    filled = y if mask is None else fill_holes(y, mask)
    size = tuple(operator.input_shape[1:])
    if operator.output_shape[0] != operator.input_shape[0]:
        return operator.pseudo_inverse(filled)
    if tuple(operator.output_shape[1:]) == size:
        return filled
    return F.interpolate(filled, size=size, mode="bicubic", align_corners=False)


def fill_holes(y: Tensor, known: Tensor) -> Tensor:
    """y with each missing pixel replaced by a smooth interpolation of the known ones; 0 where nothing is known.

    Means of 2 x 2 blocks, of the known pixels alone, down to the level at which nothing is missing, and back up by
    bilinear interpolation ("pull-push", Gortler et al. 1996), with a few steps towards a harmonic filling at each: the
    same for an image alone and in a batch.

    Args:
        y: [B, C, H, W]; what it holds at missing pixels is not read.
        known: [B or 1, 1, H, W], 1 known, 0 missing.
    """
    known = known.to(y).expand(len(y), -1, -1, -1)
    return _filled(torch.where(known > 0, y, 0.0), known)


def _filled(values: Tensor, known: Tensor) -> Tensor:
    """`values` are 0 where `known` is."""
    if max(values.shape[2:]) == 1 or bool((known > 0).all()):
        return values
    share = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False) / torch.where(share > 0, share, 1.0)
    coarse = _filled(means, (share > 0).to(known))
    filled = F.interpolate(coarse, size=values.shape[2:], mode="bilinear", align_corners=False)
    for _ in range(SMOOTHING):
        filled = _mean_of_neighbours(torch.where(known > 0, values, filled))
    return torch.where(known > 0, values, filled)


def _mean_of_neighbours(x: Tensor) -> Tensor:
    """Of the four of each pixel; beyond the border the pixel at the border counts."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]) / 4
