"""Augmentation on the batch. Every decision is a function of (seed, epoch, image index): a resumed run makes the same
ones.
"""

import torch
from torch import Tensor


def coin(seed: int, epoch: int, index: Tensor) -> Tensor:
    """A fair coin, bool [B], for each image index int64 [B]: the top bit of an integer hash, equal on every device.

    The mixing steps are those of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators",
    figure 17).
    """
    x = index.to(torch.int64) + _mix_int(_mix_int(seed) + epoch)
    return _mix(x) < 0


def flip_at_random(image: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
    """x or its mirror image, [B, C, H, W]: each with probability 1/2, decided by (seed, epoch, index)."""
    return torch.where(coin(seed, epoch, index)[:, None, None, None], image.flip(-1), image)


_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finalizer on int64, whose multiplication wraps; the mask turns the arithmetic shift into a logical
    one.
    """
    x = x + _signed(_GOLDEN)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * _signed(factor)
    return x


def _mix_int(value: int) -> int:
    return int(_mix(torch.tensor(_signed(value))))
