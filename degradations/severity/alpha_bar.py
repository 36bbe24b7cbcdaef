"""The share of the image in a blend of image and noise, by severity."""

import math

import torch
from torch import Tensor


def cosine_alpha_bar(steps: int, offset: float = 0.008) -> Tensor:
    """prod (1 - beta_i), beta_i = min(1 - f((i + 1) / T) / f(i / T), 0.999), f(u) = cos^2((u + s) / (1 + s) pi / 2):
    float64 [T], T = steps.

    Nichol and Dhariwal 2021 (2102.09672), equation 17; the same numbers as diffusion.schedules.Cosine.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0)
