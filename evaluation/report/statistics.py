"""Means with confidence intervals: a bootstrap over images, because the samples of one image are not independent of
each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.random_streams import RandomStreams

RESAMPLES = 5000
_CHUNK = 2_000_000  # indices drawn at once: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A mean and the percentiles 2.5 and 97.5 of its bootstrap over n images; NaN where there is none (no image; for
    the ends: one image).
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """mean +- percentile bootstrap, B = 5000, 95 %. values: one number per image (samples averaged before); NaN ones
    are missing and left out.
    """
    return bootstrap_of(lambda columns: columns[0].mean(-1), np.asarray(values, dtype=np.float64)[None], seed=seed)


def bootstrap_means(
    values: Sequence[Sequence[float]], of_means: Callable[[Sequence[np.ndarray]], np.ndarray], *, seed: int
) -> Interval:
    """of_means(mean over images of each of k numbers), the k resampled together: averages first, then a ratio or root.

    values: k times one number per image, on the draws of :func:`bootstrap`.
    """
    return bootstrap_of(
        lambda columns: of_means([column.mean(-1) for column in columns]), np.asarray(values, np.float64), seed=seed
    )


def first(means: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the first number, for what is a mean and nothing else."""
    return means[0]


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int) -> Interval:
    """mean(a - b) over the same images: much narrower than two separate intervals, because images differ more than
    methods do.
    """
    return bootstrap(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), seed=seed)


def bootstrap_of(statistic: Callable[[np.ndarray], np.ndarray], columns: np.ndarray, *, seed: int) -> Interval:
    """statistic([k, ..., n]) -> [...] of columns [k, n]; images (entries of n) are drawn with replacement, the same
    draw for every column.

    The draws depend on (seed, n) alone, so that methods with the same images are compared on the same draws. Source:
    Efron and Tibshirani 1993.
    """
    columns = columns[:, np.isfinite(columns).all(0)]
    n = columns.shape[1]
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(statistic(columns))
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    generator = RandomStreams(seed).generator("bootstrap", n)
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, RESAMPLES, max(1, _CHUNK // n)):
            draws = generator.integers(0, n, (min(max(1, _CHUNK // n), RESAMPLES - start), n))
            found.append(statistic(columns[:, draws]))
    low, high = np.nanpercentile(np.concatenate(found), [2.5, 97.5])
    return Interval(mean, float(low), float(high), n)
