"""What the likelihoods of the noise laws share: bins of grey levels, the normal law over an interval, the sum over
measured values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Beyond every value: the outer ends of the bins of black and white.
_FAR = 1e6


def level_bins(v: Tensor) -> tuple[Tensor, Tensor]:
    """(low, high) of the intensities that are stored as the grey level nearest to v: (j -+ 1/2) / 255 for j = round(255
    v) in 0..255, open at black and white, where everything beyond is clipped to.
    """
    level = (255 * v).round().clamp(0, 255)
    low = torch.where(level == 0, -_FAR, (level - 0.5) / 255)
    return low, torch.where(level == 255, _FAR, (level + 0.5) / 255)


def log_normal_interval(low: Tensor, high: Tensor, mean: Tensor, std: Tensor | float) -> Tensor:
    """log(Phi((high - mean) / std) - Phi((low - mean) / std)), low < high, without cancellation in either tail;
    differentiable in mean and std.
    """
    a, b = (low - mean) / std, (high - mean) / std
    flip = a + b > 0  # the upper tail is the lower one of -x
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    log_b = _log_ndtr(b)
    return log_b + torch.log(-torch.expm1(_log_ndtr(a) - log_b))


def _log_ndtr(x: Tensor) -> Tensor:
    """log Phi(x). torch.special.log_ndtr has this value, but its derivative is NaN below -50."""
    tail = x.clamp(max=-1)
    low = torch.log(torch.special.erfcx(-tail / 2**0.5) / 2) - tail.square() / 2
    return torch.where(x < -1, low, torch.special.log_ndtr(x.clamp(min=-1)))


def sum_measured(values: Tensor, mask: Tensor | None) -> Tensor:
    """The sum over the measured values of each image, [B]. mask: 1 where a value was measured, broadcasts to values."""
    return (values if mask is None else values * mask.to(values)).flatten(1).sum(1)


def check_index(clean: Tensor, index: Sequence[int]) -> None:
    """ValueError where there are not as many indices as images: noise of several images would be added to one."""
    if len(index) != len(clean):
        raise ValueError(f"index must have one entry per image, got {len(index)} for {len(clean)} images")


def check_misfit(y: Tensor, clean: Tensor, sigma: float) -> None:
    """ValueError where y and A x have different shapes, which would be broadcast silently, and where sigma is 0."""
    if y.shape != clean.shape:
        raise ValueError(f"y and A x must have one shape, got {list(y.shape)} and {list(clean.shape)}")
    if not sigma > 0:
        raise ValueError("sigma is 0, and without noise there is no likelihood: give the noise a level above 0")
