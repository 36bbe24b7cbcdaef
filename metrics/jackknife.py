"""An estimate and its interval from leaving out one block after the other: for what resampling with replacement would
bias.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval;

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


def jackknife(value: float, left_out: Sequence[float]) -> Estimate:
    """value -+ q s, s^2 = (K - 1) / K sum_k (v_k - mean v)^2 over the K values with one block left out each
    (Quenouille, Tukey; blocks of equal size).

    q: see :func:`quantile`.
    """
    count = len(left_out)
    mean = sum(left_out) / count
    deviation = math.sqrt((count - 1) / count * sum((v - mean) ** 2 for v in left_out))
    half = quantile(count) * deviation
    return Estimate(value, value - half, value + half, tuple(left_out))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b where block k of both belongs together, as images of the same start noise do: an interval without what the
    blocks have in common.

    ValueError for estimates that do not come from a jackknife over as many blocks.
    """
    if not a.left_out or len(a.left_out) != len(b.left_out):
        raise ValueError(
            f"both estimates must come from a jackknife over as many blocks, got {len(a.left_out)} and"
            f" {len(b.left_out)}"
        )
    return jackknife(a.value - b.value, [x - y for x, y in zip(a.left_out, b.left_out, strict=True)])


def quantile(count: int) -> float:
    """The 97.5 % quantile of Student's t with count - 1 degrees of freedom: 1.96 is too small for a deviation estimated
    from 10 or 20 values.
    """
    return float(stdtrit(count - 1, 0.975))
