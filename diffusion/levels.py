"""Lists of levels for samplers: strictly decreasing, ending in 0. What a sampler steps to is always the next entry of
its list.
"""

import math

import torch
from torch import Tensor

from diffusion.denoiser import Denoiser

SPACINGS = ("karras", "trailing", "leading", "linspace")


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """sigma_i = (sigma_max^(1/rho) + i / (S - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, i = 0 .. S - 1, then 0:
    float64 [S + 1].

    Karras et al. 2022 (2206.00364), equation 5. ValueError unless steps >= 1 and 0 < sigma_min < sigma_max.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"steps must be at least 1 and 0 < sigma_min < sigma_max, got steps={steps}, sigma_min={sigma_min},"
            f" sigma_max={sigma_max}"
        )
    return _ending_in_zero(karras_ramp(torch.linspace(0, 1, steps, dtype=torch.float64), sigma_min, sigma_max, rho))


def karras_ramp(ramp: Tensor, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """(sigma_max^(1/rho) + r (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for r of any shape: sigma_max at 0, sigma_min
    at 1.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)).pow(rho)


def spaced_sigmas(denoiser: Denoiser, steps: int, spacing: str = "trailing") -> Tensor:
    """Levels of a denoiser at evenly spaced training times, then 0: float64 [S + 1].

    With T training times: "trailing" T - 1, T - 1 - T/S, ... (keeps the noisiest; best for few steps), "leading" (S -
    1) T/S, ..., T/S, 0 (the old DDIM choice; never sees the noisiest level), "linspace" both ends; rounded to whole
    times. "karras": :func:`karras_sigmas` between the denoiser's levels, from at most sigma = 80. ValueError for an
    unknown spacing or steps outside of 1 .. T.
    """
    if spacing == "karras":
        return karras_sigmas(steps, denoiser.sigma_min, min(denoiser.sigma_max, 80.0))
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got '{spacing}'")
    total = denoiser.num_timesteps
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie in 1 .. {total}, the number of training times, got {steps}")
    ramp = torch.arange(steps, dtype=torch.float64)
    if spacing == "trailing":
        time = (total - ramp * (total / steps)).round() - 1
    elif spacing == "leading":
        time = (ramp * (total // steps)).flip(0)
    else:
        time = torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()
    return _ending_in_zero(denoiser.level_at(time))


def within(denoiser: Denoiser, start: float, end: float) -> tuple[float, float]:
    """The first and the last level of a chain from `start` down to `end`, held to those that the denoiser knows;
    ValueError where none of its levels lies between them.
    """
    low, high = denoiser.sigma_min, denoiser.sigma_max
    first, last = min(start, high), max(end, low)
    if not last < first:
        raise ValueError(
            f"sigma_start must lie above sigma_end, and both must leave some of {low:.4g} .. {high:.4g} between them,"
            f" the levels that the prior knows, got {start:.4g} and {end:.4g}"
        )
    return first, last


def below(sigmas: Tensor, start: float) -> Tensor:
    """The list restarted at `start`: [start, those of `sigmas` below it]; ValueError unless 0 < start <= sigmas[0]."""
    if not 0 < start <= float(sigmas[0]) * (1 + 1e-6):
        raise ValueError(f"start must lie in (0, {float(sigmas[0]):.4g}], got {start}")
    lower = sigmas[sigmas < start * (1 - 1e-6)]
    return torch.cat([torch.tensor([start], dtype=sigmas.dtype), lower])


def down_from(denoiser: Denoiser, start: float, steps: int) -> Tensor:
    """start, then the levels at training times t (1 - i / S), i = 1 .. S - 1, then 0: float64 [S + 1], t the
    (fractional) time of `start`.

    "trailing" for a chain that begins anywhere; shorter where `start` is the lowest level itself. ValueError unless
    steps >= 1 and the denoiser knows the level `start`.
    """
    low, high = denoiser.sigma_min, denoiser.sigma_max
    if steps < 1 or not low <= start <= high:
        raise ValueError(
            f"steps must be at least 1 and start a level that the denoiser knows, {low:.4g} .. {high:.4g}, got {steps},"
            f" {start:.4g}"
        )
    first = torch.tensor([start], dtype=torch.float64)
    if steps == 1:
        return _ending_in_zero(first)
    inner = denoiser.level_at(time_at(denoiser, start) * (1 - torch.arange(1, steps, dtype=torch.float64) / steps))
    return _ending_in_zero(below(torch.cat([first, inner]), start))


def time_at(denoiser: Denoiser, sigma: float) -> float:
    """The training time, 0 .. times - 1, fractional, whose level is sigma: log-linear between whole times, clamped. The
    inverse of `level_at`.
    """
    table = denoiser.level_at(torch.arange(denoiser.num_timesteps, dtype=torch.float64)).log()
    upper = int(torch.searchsorted(table, math.log(sigma)).clamp(1, len(table) - 1))
    low, high = float(table[upper - 1]), float(table[upper])
    return min(max(upper - 1 + (math.log(sigma) - low) / (high - low), 0.0), denoiser.num_timesteps - 1.0)


def _ending_in_zero(levels: Tensor) -> Tensor:
    return torch.cat([levels.double(), torch.zeros(1, dtype=torch.float64)])
