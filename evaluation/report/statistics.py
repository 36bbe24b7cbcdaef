"""Means with 95 % confidence intervals over images, because the samples of one image are not independent of each other:
the percentile bootstrap from 50 images on, Student's t with Hall's correction for skewness below, where the bootstrap
covers too seldom (normal rows: 83 % at 5 images, 89 % at 8, 93 % at 20; tests/evaluation/report/test_statistics.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from common.random_streams import RandomStreams

LEAST_FOR_BOOTSTRAP = 50
LEAST_FOR_SKEWNESS = 4  # of 3 numbers it says nothing: Hall's interval of them is wider and covers less than Student's
RESAMPLES = 5000
_CHUNK = 2_000_000  # indices drawn at once: bounds the memory
LEAST_TO_COUNT = 1000
_KEPT = 100_000_000  # bytes of draws that are kept for the next column

OfMeans = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A mean over n images and the ends of its 95 % interval; NaN where there is none (no image; for the ends: one
    image).
    """

    mean: float
    low: float
    high: float
    n: int

    def within(self, lowest: float, highest: float) -> "Interval":
        """Without the part that the quantity cannot have: Student's interval of few shares may pass 1, and covers the
        true mean no less often where it ends there.
        """
        return replace(self, low=_clip(self.low, lowest, highest), high=_clip(self.high, lowest, highest))


def _clip(x: float, lowest: float, highest: float) -> float:
    return x if np.isnan(x) else min(max(x, lowest), highest)


def mean_interval(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """The mean and its interval, see :func:`interval_of_means`. values: one number per image (samples averaged before);
    NaN ones are missing and left out.
    """
    return interval_of_means([values], first, seed=seed)


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int) -> Interval:
    """mean(a - b) over the same images: much narrower than two separate intervals, because images differ more than
    methods do.
    """
    return mean_interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), seed=seed)


def interval_of_means(values: Sequence[Sequence[float] | np.ndarray], of_means: OfMeans, *, seed: int) -> Interval:
    """of_means(mean over images of each of k numbers): averages first, then a ratio or root.

    From 50 images: percentiles 2.5 and 97.5 of a bootstrap, the k numbers resampled together. Below: :func:`hall` of
    the pseudo-values n f - (n - 1) f_i, f_i without image i (of a mean they are the numbers themselves), around f.

    Args:
        values: k times one number per image; images with a NaN are left out.
        of_means: [...] of k arrays [...].
        seed: of the bootstrap.
    """
    columns = np.asarray(values, dtype=np.float64)
    columns = columns[:, np.isfinite(columns).all(0)]
    n = columns.shape[1]
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    if n >= LEAST_FOR_BOOTSTRAP:
        return _bootstrap(of_means, columns, seed)
    value = float(of_means([column.mean(-1) for column in columns]))
    if n == 1:
        return Interval(value, np.nan, np.nan, 1)
    pseudo = columns[0]
    if of_means is not first:
        with np.errstate(divide="ignore", invalid="ignore"):
            pseudo = n * value - (n - 1) * of_means([(c.sum() - c) / (n - 1) for c in columns])
    if not np.isfinite(pseudo).all():  # a ratio whose denominator one image alone keeps from 0
        return Interval(value, np.nan, np.nan, n)
    low, high = hall(pseudo, value)
    return Interval(value, float(low), float(high), n)


def first(means: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the first number, for what is a mean and nothing else."""
    return means[0]


def hall(values: np.ndarray, centre: np.ndarray | float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """[m - t(q) s, m - t(-q) s], t(x) = (cbrt(1 + 3 A (x - A / 2)) - 1) / A: Student's interval of a mean whose
    skewness a cubic transformation takes off.

    s = sd / sqrt(n), A = G / (3 sqrt(n)) with the unbiased skewness G, q Student's 97.5 % quantile with n - 1 degrees
    of freedom; Student's own interval m -+ q s where A = 0 and for 2 or 3 numbers. Hall 1992, "On the removal of
    skewness by transformation", J. R. Stat. Soc. B 54 (1), 221-228; there with the normal quantile.

    Args:
        values: [..., n], n >= 2.
        centre: m [...]; None for the mean of the values.
    """
    n = values.shape[-1]
    mean = values.mean(-1)
    deviation = values - mean[..., None]
    variance = (deviation**2).mean(-1)
    s, q = np.sqrt(variance / (n - 1)), float(stdtrit(n - 1, 0.975))
    A = np.zeros_like(mean)
    if n >= LEAST_FOR_SKEWNESS:
        third = (deviation**3).mean(-1)
        skewness = np.divide(third, variance**1.5, out=np.zeros_like(mean), where=variance**1.5 > 0)
        A = skewness * np.sqrt(n - 1) / (3 * (n - 2))  # G = skewness sqrt(n (n - 1)) / (n - 2)

    def t(x: float) -> np.ndarray:
        root = np.cbrt(1 + 3 * A * (x - A / 2))
        return 3 * (x - A / 2) / (root**2 + root + 1)  # (root - 1) / A, also for A = 0

    m = mean if centre is None else centre
    return m - t(q) * s, m - t(-q) * s


def _bootstrap(of_means: OfMeans, columns: np.ndarray, seed: int) -> Interval:
    """of_means(means of each of the columns [k, n]) and its percentiles; images are drawn with replacement, the same
    draw for every column.

    The draws depend on (seed, n) alone, so that methods with the same images are compared on the same draws. Of many
    images it is counted how often each is drawn, once for all columns: the same means up to the order of sums, in a
    twentieth of the time. Source: Efron and Tibshirani 1993.
    """
    n = columns.shape[1]
    mean = float(of_means([column.mean(-1) for column in columns]))
    with np.errstate(divide="ignore", invalid="ignore"):
        if n < LEAST_TO_COUNT:
            means = ([column[rows].mean(-1) for column in columns] for rows in _rows(seed, n))
        else:
            means = (list((times.astype(np.float64) @ columns.T).T / n) for times in _times(seed, n))
        found = [of_means(each) for each in means]
    low, high = np.nanpercentile(np.concatenate(found), [2.5, 97.5])
    return Interval(mean, float(low), float(high), n)


def _rows(seed: int, n: int) -> Iterator[np.ndarray]:
    """The images that are drawn, int64 [some of RESAMPLES, n] after one another."""
    generator = RandomStreams(seed).generator("bootstrap", n)
    size = max(1, _CHUNK // n)
    for start in range(0, RESAMPLES, size):
        yield generator.integers(0, n, (min(size, RESAMPLES - start), n))


def _times(seed: int, n: int) -> Iterable[np.ndarray]:
    """How often each image is drawn, uint8 [some of RESAMPLES, n] after one another; kept for the next column of the
    same table, as long as that takes little memory.
    """
    return _kept_times(seed, n) if RESAMPLES * n <= _KEPT else _counted(seed, n)


@lru_cache(maxsize=2)
def _kept_times(seed: int, n: int) -> list[np.ndarray]:
    return list(_counted(seed, n))


def _counted(seed: int, n: int) -> Iterator[np.ndarray]:
    for rows in _rows(seed, n):
        rows += n * np.arange(len(rows))[:, None]
        yield np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.uint8)


def in_words(counts: Iterable[int]) -> str:
    """What the intervals of a table are, by the numbers of images that its means are over: "percentile bootstrap"."""
    found = sorted(set(counts))
    few = [n for n in found if 1 < n < LEAST_FOR_BOOTSTRAP]
    many = [n for n in found if n >= LEAST_FOR_BOOTSTRAP]
    words = []
    if few:
        words.append("Student's t")
        if few[-1] >= LEAST_FOR_SKEWNESS:
            start = "" if few[0] >= LEAST_FOR_SKEWNESS else f" from {LEAST_FOR_SKEWNESS} images on"
            words[0] += f", corrected for skewness{start} (Hall 1992)"
    if many:
        words.append(f"percentile bootstrap from {LEAST_FOR_BOOTSTRAP} images on" if few else "percentile bootstrap")
    if 1 in found:
        words.append("none of a single image")
    return "; ".join(words) if words else "none without images"
