"""Power-function profiles of an average of weights, and the combination of snapshots that gives another profile:
docs/theory/power_ema.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Profile:
    """p(tau) = (gamma + 1) tau^gamma / t^(gamma+1) on 0 < tau <= t = `images`: what share of an average comes from the
    weights at tau images.
    """

    images: float
    gamma: float


@dataclass(frozen=True)
class Combination:
    """weights: one per snapshot, with sum 1. residual: |fit - target| / |target| of the profiles, in L2.

    gain: sqrt(sum of squared weights), by which independent rounding errors of the snapshots are multiplied.
    """

    weights: tuple[float, ...]
    residual: float
    gain: float


def width_of(gamma: float) -> float:
    """sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))): the standard deviation of the profile over t. Karras
    et al. 2024 (2312.02696), eq. 126.
    """
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def gamma_of(width: float) -> float:
    """The largest real root of gamma^3 + 7 gamma^2 + (16 - s) gamma + (12 - s) = 0, s = width^-2.

    width: relative, 0 < width < 1 / sqrt(12) = 0.2887, where gamma is 0 and the average is over all of training alike.
    ValueError beyond. Karras et al. 2024 (2312.02696), section 3.1.
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"the relative width of a power-function average must be between 0 and 0.288, got {width}")
    s = width**-2
    roots = np.roots([1.0, 7.0, 16.0 - s, 12.0 - s])
    gamma = float(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real.max())
    for _ in range(3):  # Newton: the companion matrix loses digits where s is large
        value, slope = ((gamma + 7) * gamma + 16 - s) * gamma + 12 - s, (3 * gamma + 14) * gamma + 16 - s
        gamma -= value / slope
    return gamma


def power_decay(images_per_step: int, images_seen: int, gamma: float) -> float:
    """d = (1 - images_per_step / images_seen)^(gamma + 1), images_seen counted with this step's: 0 at the first step,
    so no start-up bias.

    The weight of step k in the average is then exactly the integral of the profile over that step's images.
    """
    return max(0.0, 1.0 - images_per_step / images_seen) ** (gamma + 1)


def inner_product(a: Profile, b: Profile) -> float:
    """Integral of p_a p_b: with t_a <= t_b, (gamma_a + 1)(gamma_b + 1) / (gamma_a + gamma_b + 1) (t_a / t_b)^gamma_b /
    t_b.
    """
    a, b = (a, b) if a.images <= b.images else (b, a)
    return (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1) * (a.images / b.images) ** b.gamma / b.images


def combine(snapshots: Sequence[Profile], target: Profile) -> Combination:
    """The w that minimises |sum_i w_i p_i - p_target|^2: A w = b with A_ij = <p_i, p_j>, b_i = <p_i, p_target>, then
    divided by its sum; float64.

    ValueError without snapshots, or where the weights sum to 0 (no snapshot is near the target). Karras et al. 2024
    (2312.02696), section 3.2.
    """
    if not snapshots:
        raise ValueError("at least one snapshot is needed")
    scale = np.array([inner_product(p, p) for p in snapshots]) ** -0.5  # profiles of length one: a well-scaled system
    matrix = np.array([[inner_product(a, b) for b in snapshots] for a in snapshots]) * scale[:, None] * scale
    right = np.array([inner_product(p, target) for p in snapshots]) * scale
    solution = np.linalg.lstsq(matrix, right, rcond=1e-13)[0]
    weights = solution * scale
    if not abs(weights.sum()) > 1e-6:
        raise ValueError("no snapshot overlaps the profile that is asked for")
    weights = weights / weights.sum()
    x, length = weights / scale, inner_product(target, target)
    square = x @ matrix @ x - 2 * x @ right + length  # |sum w p - p_target|^2 of the weights that are used
    return Combination(
        tuple(map(float, weights)), float(max(0.0, square / length) ** 0.5), float(np.sqrt(np.square(weights).sum()))
    )
