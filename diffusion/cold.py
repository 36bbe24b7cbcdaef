"""From a degraded image back to a clean one with a restorer: in one step, or along the severities (cold diffusion)."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from degradations.base import Params
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Condition

Algorithm = Literal["direct", "naive", "improved"]
ALGORITHMS = ("direct", "naive", "improved")
#: (step, number of steps, x0 [B, C, H, W]).
OnStep = Callable[[int, int, Tensor], None]


def severities_from(start: int, steps: int | None = None) -> list[int]:
    """`steps` + 1 severities from `start` down to 0, evenly spaced and rounded: [20, 15, 10, 5, 0]; all of them where
    steps is None or not smaller than start.

    ValueError for a start or a number of steps below 1.
    """
    if start < 1 or (steps is not None and steps < 1):
        raise ValueError(f"start and steps must be at least 1, got {start} and {steps}")
    if steps is None or steps >= start:
        return list(range(start, -1, -1))
    return [round(start * (steps - k) / steps) for k in range(steps + 1)]


def check_severities(severities: Sequence[int], largest: int) -> None:
    """ValueError unless the list is strictly decreasing, ends in 0 and stays within the family."""
    if (
        len(severities) < 2
        or severities[-1] != 0
        or not all(a > b for a, b in pairwise(severities))
        or severities[0] > largest
    ):
        raise ValueError(f"severities must be strictly decreasing from at most {largest} to 0, got {list(severities)}")


@torch.no_grad()
def cold_sample(
    restorer: ColdRestorer,
    x: Tensor,
    severities: Sequence[int],
    params: Params,
    *,
    algorithm: Algorithm = "improved",
    estimated_noise: bool = False,
    condition: Condition | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """x0 [B, C, H, W] of x = D(x0, severities[0]), not clipped. With x0' = R(x_s, s) and the next severity r of the
    list:

    "direct" (one call): x0'. "naive" (the paper's algorithm 1): x_r = D(x0', r). "improved" (algorithm 2): x_r = x_s -
    D(x0', s) + D(x0', r), which to first order does not depend on the errors of x0': for D(x, s) = x + s e it is exact
    whatever R says.

    severities: strictly decreasing, ending in 0. params: of D, those that x was degraded with. estimated_noise: for the
    Gaussian family, the noise is what x_s and x0' imply, at every step anew; algorithm 2 is DDIM with eta = 0 then.
    ValueError for an unknown algorithm, or a list or family that does not fit. Bansal et al. 2022 (2208.09392),
    algorithms 1 and 2.
    """
    family = restorer.family
    check_severities(severities, family.severities)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got '{algorithm}'")
    if estimated_noise and not isinstance(family, GaussianNoiseFamily):
        raise ValueError(
            f"estimated_noise is for the Gaussian family, and this is {family.description}: set it to false"
        )
    if algorithm == "direct":
        severities = [severities[0], 0]
    steps = len(severities) - 1
    x0 = x
    for i in range(steps):
        now, after = (torch.full((len(x),), s, device=x.device) for s in severities[i : i + 2])
        x0 = restorer.predict(x, now, condition)
        if on_step is not None:
            on_step(i, steps, x0)
        if algorithm == "direct":
            return x0
        if estimated_noise and isinstance(family, GaussianNoiseFamily):
            params = {**params, "noise": family.noise_of(x, x0, now)}
        ahead = family(x0, after, params)
        x = ahead if algorithm == "naive" else x - family(x0, now, params) + ahead
    return x
