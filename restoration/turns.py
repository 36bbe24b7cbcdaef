"""A picture turned and mirrored, and back: eight ways to show it to a network."""

import torch
from torch import Tensor


def turned(x: Tensor, k: int) -> Tensor:
    """x [..., H, W] turned by k quarters, k = 0 .. 7, and mirrored from k = 4 on."""
    x = torch.rot90(x, k % 4, (-2, -1))
    return (x.flip(-1) if k >= 4 else x).contiguous()


def turned_back(x: Tensor, k: int) -> Tensor:
    """What :func:`turned` turned by the same k."""
    return torch.rot90(x.flip(-1) if k >= 4 else x, -(k % 4), (-2, -1))
