"""How far samples are from a posterior that is known: one row of a card."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.closed_form import MixtureDenoiser
from diffusion.exact_posterior import ExactPosterior
from studies.oracle.worlds import World

LEVELS = (0.5, 0.9, 0.95)
LEAST = 40  # samples of an image from which an interval of 95 % can be read


@dataclass(frozen=True)
class Row:
    """What the samples of a method are like, over the measurements of a world; not a number where that is undefined.

    Args:
        mean: the root mean square distance of their mean from the posterior's over the posterior's standard deviation,
            of seen and of unseen components, without the share of a finite number of samples.
        deviation: their standard deviation over the posterior's, seen and unseen.
        coverage: the posterior's probability of their central intervals of 50, 90 and 95 %, the mean over components.
        residual: the root mean square of y - A x over the level of the noise; without noise in [-1, 1] units.
        weights: of the first mode, of each measurement; empty where the prior has one.
    """

    mean: tuple[float, float]
    deviation: tuple[float, float]
    coverage: tuple[float, ...]
    residual: float
    weights: tuple[float, ...]


@torch.no_grad()
def measure_samples(samples: Tensor, world: World) -> Row:
    """The row of samples [B, N, C, H, W] of a world's measurements; N = 1 of a method that gives one answer."""
    count = samples.shape[1]
    samples = samples.double()
    x = samples.flatten(2) @ world.basis
    exact, variance = world.posterior, world.posterior.covariance.diagonal(dim1=1, dim2=2)
    spread = x.var(1) if count > 1 else torch.zeros_like(variance)
    off = (x.mean(1) - exact.mean).square() - spread / count
    parts = (world.seen, ~world.seen)
    return Row(
        mean=_pair(_root(_ratio(off, variance, part)) for part in parts),
        deviation=_pair(_root(_ratio(spread, variance, part)) for part in parts),
        coverage=_coverage(x, exact, variance) if count >= LEAST else (math.nan,) * len(LEVELS),
        residual=_residual(samples, world),
        weights=_weights(samples, world),
    )


def exact_row(world: World) -> Row:
    """What an exact method tends to, by formula."""
    variance = world.posterior.covariance.diagonal(dim1=1, dim2=2)
    ones = _pair(1.0 + 0 * _ratio(variance, variance, part) for part in (world.seen, ~world.seen))
    weights = tuple(world.posterior.weights[:, 0].tolist()) if isinstance(world.prior, MixtureDenoiser) else ()
    return Row(_pair(v - 1 for v in ones), ones, LEVELS, world.residual(), weights)


def _ratio(values: Tensor, variance: Tensor, part: Tensor) -> float:
    """Of the sums over a part of the components; not a number where there is none or nothing is uncertain."""
    whole = float(variance[:, part].clamp(min=0).sum())
    return float(values[:, part].sum()) / whole if whole > 1e-12 else math.nan


def _root(value: float) -> float:
    """Of a difference of squares that chance may make negative."""
    return math.sqrt(max(value, 0.0)) if not math.isnan(value) else value


def _pair(values: Iterable[float]) -> tuple[float, float]:
    first, second = values
    return first, second


def _coverage(x: Tensor, exact: ExactPosterior, variance: Tensor) -> tuple[float, ...]:
    """Ends of intervals are order statistics at p (N + 1), which cover what they should in the mean for any N."""
    count, uncertain = x.shape[1], variance > 1e-12
    tails = torch.tensor([q for level in LEVELS for q in ((1 - level) / 2, (1 + level) / 2)], dtype=torch.float64)
    ends = torch.quantile(x, (tails * (count + 1) - 1) / (count - 1), dim=1)  # [2 levels, B, D]
    below = exact.below(ends)
    inside = (below[1::2] - below[::2])[:, uncertain]
    return tuple(inside.mean(1).tolist())


def _residual(samples: Tensor, world: World) -> float:
    measurement = world.measurement.repeat(samples.shape[1])
    operator = measurement.operator
    off = (measurement.y - operator(samples.flatten(0, 1))).square()
    measured = torch.ones_like(off) if operator.mask is None else operator.mask.to(off).expand_as(off)
    return math.sqrt(float(off.sum() / measured.sum())) / (measurement.sigma or 1.0)


def _weights(samples: Tensor, world: World) -> tuple[float, ...]:
    """The mean of the probability that a sample came from the first component: exact for exact samples, whether the
    components overlap or not.
    """
    if not isinstance(world.prior, MixtureDenoiser):
        return ()
    flat = samples.flatten(0, 1)
    first = world.prior.responsibilities(flat, flat.new_full((len(flat),), 1e-3))[:, 0]
    return tuple(first.view(len(samples), -1).mean(1).tolist())
