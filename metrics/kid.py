"""The kernel distance between two sets of features (KID where the features are Inception's)."""

import torch
from torch import Tensor

from common.tensor_shapes import OtherRows, Rows
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.stored_statistics import AgainstStored

CHUNK = 2048


class KID(AgainstStored):
    """mean k(x, x') + mean k(y, y') - 2 mean k(x, y), k(a, b) = (a.b / d + 1)^3, unbiased: about 0 for equal laws,
    by chance below it; larger is worse. See :func:`kid` and, for
    restored images and their truths, :func:`kid_of_pairs`. Binkowski et al. 2018 (1801.01401), section 4.

    Args:
        features: the network; the published numbers are of Inception's.
        blocks: of images that the interval leaves out one after the other, at least 2.
        reference_images: so many of an unpaired reference, which comes shuffled, at least 2: the work grows with the
            square, and the interval no longer changes beyond ten thousand.
        statistics: the reference are features of a data set that clean-fid publishes, by the name of their file without
            _kid.npz (cifar10_clean_train_32); None: the images of the configuration.
    """

    label = "KID"
    unit = "x 1000"
    factor = 1000.0
    higher_is_better = False
    lowest = 0.0
    rows_of_statistics = True
    note = "KID has no bias; of restored images it leaves out the pairs of an image with its own truth."

    def __init__(
        self,
        *,
        features: FeatureNetwork,
        blocks: int = 20,
        reference_images: int = 10_000,
        statistics: str | None = None,
    ) -> None:
        super().__init__(features=features, statistics=statistics)
        if blocks < 2 or reference_images < 2:
            raise ValueError(f"blocks and reference_images must be at least 2, got {blocks} and {reference_images}")
        self.blocks, self.reference_images = blocks, reference_images

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if self.stored is not None:
            stored = self.stored.features(self.features.dimension, self.reference_images)
            return kid(found.features, stored, blocks=self.blocks)
        if paired:
            return kid_of_pairs(found.features, reference.features, blocks=self.blocks)
        return kid(found.features, reference.features[: self.reference_images], blocks=self.blocks)


def kid(generated: Rows, reference: OtherRows, *, blocks: int = 20) -> Estimate:
    """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j), k(a, b) = (a.b / d + 1)^3: unbiased,
    may be negative.

    All pairs in float64 instead of random subsets, thus deterministic; the interval is a jackknife over blocks of the
    generated features. Papers quote 1000 times this value. generated x [N, d], in the order of their indices; reference
    y [M, d]. Binkowski et al. 2018 (1801.01401), section 4. ValueError for fewer than 4 generated or 2 reference
    features, or different dimensions.
    """
    if generated.ndim != 2 or reference.ndim != 2 or generated.shape[1] != reference.shape[1]:
        raise ValueError(f"features must be [N, d] and [M, d], got {list(generated.shape)} and {list(reference.shape)}")
    if len(reference) < 2:
        raise ValueError(f"the distance needs at least 2 reference features, got {len(reference)}")
    x = [p.double() for p in blocks_of(generated, blocks)]
    y = reference.double()
    m, counts = len(y), [len(p) for p in x]
    yy = (_kernel_sum(y, y) - _diagonal(y)) / (m * (m - 1))
    xy = torch.tensor([_kernel_sum(p, y) for p in x], dtype=torch.float64)
    xx = torch.zeros(len(x), len(x), dtype=torch.float64)
    for i, p in enumerate(x):
        for j, q in enumerate(x[: i + 1]):
            xx[i, j] = xx[j, i] = _kernel_sum(p, q)
    xx -= torch.diag(torch.tensor([_diagonal(p) for p in x], dtype=torch.float64))

    def distance(sum_xx: Tensor, sum_xy: Tensor, n: int) -> float:
        return float(sum_xx / (n * (n - 1)) + yy - 2 * sum_xy / (n * m))

    n = sum(counts)
    left_out = [
        distance(xx.sum() - xx[k].sum() - xx[:, k].sum() + xx[k, k], xy.sum() - xy[k], n - counts[k])
        for k in range(len(x))
    ]
    return jackknife(distance(xx.sum(), xy.sum(), n), left_out, images=n, lowest=0.0)


def kid_of_pairs(restored: Rows, truth: Rows, *, blocks: int = 20) -> Estimate:
    """mean_{i != j} k(x_i, x_j) + k(y_i, y_j) - 2 k(x_i, y_j) for restored images x_i of the truths y_i, features [N,
    d] both: unbiased, may be negative.

    A restored image is made of its own truth, so that k(x_i, y_i) says nothing of two sets, and with it :func:`kid`
    would be too low by about 2 (mean k(x_i, y_i) - mean k(x_i, y_j)) / N. With x = y it is exactly 0. The interval is a
    jackknife over blocks of pairs. Gretton et al. 2012 (JMLR 13), lemma 6 and the statistic of their equation 4.
    ValueError for N < 4, or where the two do not have the same shape.
    """
    if restored.shape != truth.shape or restored.ndim != 2:
        raise ValueError(f"pairs of features must be [N, d] both, got {list(restored.shape)} and {list(truth.shape)}")
    x, y = ([p.double() for p in blocks_of(f, blocks)] for f in (restored, truth))
    sums = torch.zeros(len(x), len(x), dtype=torch.float64)  # of h(i, j), i != j, by the blocks of i and j
    for i in range(len(x)):
        for j in range(i + 1):
            cross = _kernel_sum(x[i], y[j]) + _kernel_sum(y[i], x[j])
            sums[i, j] = sums[j, i] = _kernel_sum(x[i], x[j]) + _kernel_sum(y[i], y[j]) - cross
        sums[i, i] -= (
            _diagonal(x[i]) + _diagonal(y[i]) - 2 * float(((x[i] * y[i]).sum(1) / x[i].shape[1] + 1).pow(3).sum())
        )
    n, counts, total, of_block = len(restored), [len(p) for p in x], float(sums.sum()), sums.sum(1).tolist()
    left_out = [
        (total - 2 * of_block[k] + float(sums[k, k])) / ((n - counts[k]) * (n - counts[k] - 1)) for k in range(len(x))
    ]
    return jackknife(total / (n * (n - 1)), left_out, images=n, lowest=0.0)


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    total, dimension = 0.0, a.shape[1]
    for rows in a.split(CHUNK):
        for columns in b.split(CHUNK):
            total += float((rows @ columns.T / dimension + 1).pow(3).sum())
    return total


def _diagonal(a: Tensor) -> float:
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
