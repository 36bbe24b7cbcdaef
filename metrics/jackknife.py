"""An estimate and its interval from leaving out one block after the other: for what resampling with replacement would
bias.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit
from torch import Tensor

# Images from which a jackknife gives an interval. FID and KID of normal features of 8 and 64 dimensions, against a set
# and of pairs; half of an interval by 1.96 standard deviations of the values: 7 to 10 at 5 images, 1.6 to 2 at 8, 1.3
# to 1.7 at 12, 1.2 to 1.6 at 16 and 20, 1.1 to 1.4 at 30, holding their mean in 93 to 99 % of the sets from 8 images on
# (80 to 95 % for lognormal features; tests/metrics/test_jackknife.py). Of fewer than ten blocks an interval says that
# they are few, and little of the value.
LEAST_FOR_INTERVAL = 20


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval, NaN where there is none;

    Args:
        left_out: the values without one block each, where it comes from a jackknife.
    """

    value: float
    low: float
    high: float
    left_out: tuple[float, ...] = ()


def blocks_of(values: Tensor, blocks: int) -> list[Tensor]:
    """Rows [N, ...] in `blocks` parts of neighbours, or in as many as leave two rows in each; ValueError for N < 4.

    Neighbours, because labels of conditional priors go round: a part of every tenth image would be one class.
    """
    blocks = min(blocks, len(values) // 2)
    if blocks < 2:
        raise ValueError(f"an interval needs at least 4 rows, got {len(values)}")
    return list(values.tensor_split(blocks))


def jackknife(value: float, left_out: Sequence[float], *, images: int, lowest: float = -math.inf) -> Estimate:
    """value -+ q s, s^2 = (K - 1) / K sum_k (v_k - mean v)^2 over the K values with one block left out each
    (Quenouille, Tukey; blocks of equal size); the value alone for fewer than 20 images.

    q: see :func:`quantile`.

    Args:
        value: of all images.
        left_out: K values without one block each.
        images: how many there are.
        lowest: what the quantity cannot be below, 0 for a distance: neither is an end of the interval.
    """
    count = len(left_out)
    mean = sum(left_out) / count
    deviation = math.sqrt((count - 1) / count * sum((v - mean) ** 2 for v in left_out))
    half = quantile(count) * deviation
    return bounded(Estimate(value, value - half, value + half, tuple(left_out)), images, lowest=lowest)


def bounded(estimate: Estimate, images: int, *, least: int = LEAST_FOR_INTERVAL, lowest: float = -math.inf) -> Estimate:
    """The estimate with an interval that ends at `lowest` at the least, or without one where there are fewer than
    `least` images. The value stays as it is: an unbiased estimate of a distance that is 0 is below 0 half of the time.
    """
    if images < least or math.isnan(estimate.low):
        return Estimate(estimate.value, math.nan, math.nan)
    return replace(estimate, low=max(lowest, estimate.low), high=max(lowest, estimate.high))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b where block k of both belongs together, as images of the same start noise do: an interval without what the
    blocks have in common.

    ValueError for estimates that do not come from a jackknife over as many blocks, or have no interval.
    """
    if not a.left_out or len(a.left_out) != len(b.left_out):
        raise ValueError(
            f"both estimates must come from a jackknife over as many blocks, got {len(a.left_out)} and"
            f" {len(b.left_out)}"
        )
    left_out = [x - y for x, y in zip(a.left_out, b.left_out, strict=True)]
    return jackknife(a.value - b.value, left_out, images=LEAST_FOR_INTERVAL)  # both have an interval: there are enough


def quantile(count: int) -> float:
    """The 97.5 % quantile of Student's t with count - 1 degrees of freedom: 1.96 is too small for a deviation estimated
    from 10 or 20 values.
    """
    return float(stdtrit(count - 1, 0.975))
