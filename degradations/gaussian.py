"""The 1-D Gaussian kernel that all blurs share."""

import math

import torch
from torch import Tensor

from common.errors import UserError


def gaussian_taps(std: float) -> Tensor:
    """k[i] ~ exp(-i^2 / (2 std^2)), i = -r..r, r = int(4 std + 0.5), sum 1: float64 [2 r + 1]; std in pixels, 0 gives
    the single tap 1.

    The radius is that of scipy.ndimage.gaussian_filter (truncate=4). Raises ValueError where std is negative or not
    finite.
    """
    if not 0 <= std < math.inf:
        raise ValueError(f"std must be finite and at least 0, got {std}")
    radius = int(4 * std + 0.5)
    if radius == 0:  # std below 1/8: the neighbours weigh less than exp(-32)
        return torch.ones(1, dtype=torch.float64)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (offsets / std) ** 2)
    return taps / taps.sum()


def check_blur(std: float, threshold: float) -> None:
    """Raise UserError where the options of a Gaussian blur make no sense."""
    if not 0 < std < math.inf:
        raise UserError(
            f"std must be a positive number of pixels, got {std}; for no blur use degradations.identity.Identity"
        )
    if not 0 <= threshold < 1:
        raise UserError(
            f"threshold must be at least 0 and below 1 (the largest singular value of a blur), got {threshold}"
        )
