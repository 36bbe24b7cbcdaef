"""The one image range inside the code: float32 in [-1, 1], stored as uint8, converted only when read and when shown."""

import torch
from torch import Tensor


def to_float(pixels: Tensor) -> Tensor:
    """x = p / 127.5 - 1: uint8 [...] in 0..255 to float32 [...] in [-1, 1]; refuses any other dtype (TypeError)."""
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels must be uint8, got {pixels.dtype}")
    return pixels.float().div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """p = round(127.5 (clip(x, -1, 1) + 1)): float [...] in [-1, 1] to uint8 [...]; the inverse of :func:`to_float` on
    its values.

    Rounded, not truncated: truncation shifts the mean by half a level, which distribution metrics see. Not finite:
    ValueError.
    """
    if not torch.isfinite(x).all():
        raise ValueError("an image has values that are not finite (NaN or infinity)")
    return x.detach().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def sigma_to_255(sigma: float) -> float:
    """A noise level in [-1, 1] units on the 0..255 scale (factor 127.5)."""
    return 127.5 * sigma


def sigma_from(*, sigma: float | None = None, sigma_255: float | None = None, sigma_unit: float | None = None) -> float:
    """A noise level in [-1, 1] units from exactly one of sigma ([-1, 1]), sigma_255 (0..255) or sigma_unit ([0, 1]).

    Raises ValueError where none or several are given, or where the level is negative or not finite.
    """
    given = {
        k: v for k, v in {"sigma": sigma, "sigma_255": sigma_255, "sigma_unit": sigma_unit}.items() if v is not None
    }
    if len(given) != 1:
        raise ValueError(f"give exactly one of sigma, sigma_255, sigma_unit; got {given or 'none'}")
    name, value = next(iter(given.items()))
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return value * {"sigma": 1.0, "sigma_255": 1 / 127.5, "sigma_unit": 2.0}[name]
