"""The Frechet distance between two sets of features (FID where the features are Inception's), with an interval and
without its bias.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.tensor_shapes import Rows
from metrics.base import Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.moments import MeanAndCovariance, Moments
from metrics.stored_statistics import AgainstStored

LEAST_PER_DIMENSION = 10  # below so many images per feature the bias of FID is larger than most differences
#: The bias is shown by every eighth, fourth and second image, two such subsets each, and all of them.
PARTS, SUBSETS, LEAST_IN_A_PART = (8, 4, 2, 1), 2, 10


class FID(AgainstStored):
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), the Frechet distance of two sets of features: 0 for equal
    sets, larger is worse; see :func:`fid` and, for restored images and their truths, :func:`fid_of_pairs`. Heusel et
    al. 2017 (1706.08500), equation 6.

    Args:
        features: the network; the published numbers are of Inception's.
        blocks: of images that the interval leaves out one after the other, at least 2.
        statistics: the reference are those of a data set that clean-fid publishes, by their name
            (cifar10_clean_train_32); None: the images of the configuration.
    """

    label = "FID"
    higher_is_better = False
    lowest = 0.0
    note = "FID has a bias that falls with the number of images: compare at equal numbers."

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20, statistics: str | None = None) -> None:
        super().__init__(features=features, statistics=statistics)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if paired and self.stored is None:
            return fid_of_pairs(found.features, reference.features, blocks=self.blocks)
        return fid(found.features, _moments(self, reference), blocks=self.blocks)

    def wanted(self) -> int:
        return LEAST_PER_DIMENSION * self.features.dimension

    def by_images(self, found: Features, reference: Features, *, paired: bool) -> list[tuple[int, float]]:
        """Of evenly spread images, in pairs with their truths or against the whole reference."""
        pairs = paired and self.stored is None
        whole = None if pairs else _compared(found.features, _moments(self, reference))
        points = []
        for parts in PARTS:
            if len(found.features) // parts < LEAST_IN_A_PART:
                continue
            values = []
            for chosen in (slice(k, None, parts) for k in range(min(SUBSETS, parts))):
                to = whole or _Reference(Moments.of(reference.features[chosen]))
                values.append(to.distance(Moments.of(found.features[chosen])))
            points.append((len(found.features) // parts, sum(values) / len(values)))
        return points


class FIDWithoutBias(AgainstStored):
    """FID for ever more images, the end of a straight line through smaller sets: about 0 for equal laws, by chance
    below it; larger is worse. See :func:`fid_without_bias`.

    Of generated images against a reference: restored images and their truths are pairs. Chong and Forsyth 2020
    (1911.07023).

    Args:
        features: the network; the published numbers are of Inception's.
        statistics: as of :class:`FID`.
    """

    label = "FID, N → ∞"
    least = 240  # images from which a line through smaller sets is worth drawing
    interval = ""
    of_pairs = False
    note = "N → ∞ is the straight line's end."

    def __init__(self, *, features: FeatureNetwork, statistics: str | None = None) -> None:
        super().__init__(features=features, statistics=statistics)

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if paired:
            raise Missing("is of generated images against a reference set, not of restored images and their truths")
        return Estimate(fid_without_bias(found.features, _moments(self, reference)), float("nan"), float("nan"))


def _moments(metric: AgainstStored, reference: Features) -> Moments | MeanAndCovariance:
    """Of the reference, or of what takes its place."""
    return reference.moments if metric.stored is None else metric.stored.moments(metric.features.dimension)


def frechet_distance(a: Moments | MeanAndCovariance, b: Moments | MeanAndCovariance) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), float64, by symmetric square roots with negative eigenvalues
    of rounding cut off at 0.

    Heusel et al. 2017 (1706.08500), equation 6. ValueError for fewer than two features or different dimensions.
    """
    if a.dimension != b.dimension:
        raise ValueError(
            f"features must have one dimension, got {a.dimension} and {b.dimension}: they are of two networks"
        )
    return _Reference(b).distance(a)


class _Reference:
    """Moments with the square root of their covariance: found once for the many distances of an interval, and most of
    the work.
    """

    def __init__(self, moments: Moments | MeanAndCovariance) -> None:
        self.moments, self.covariance = moments, moments.covariance
        values, basis = torch.linalg.eigh(self.covariance)
        self.root = (basis * values.clamp(min=0).sqrt()) @ basis.T

    def distance(self, a: Moments | MeanAndCovariance) -> float:
        b, covariance = self.moments, a.covariance
        cross = torch.linalg.eigvalsh(self.root @ covariance @ self.root).clamp(min=0).sqrt().sum()
        distance = (a.mean - b.mean).square().sum() + covariance.trace() + self.covariance.trace() - 2 * cross
        return max(0.0, float(distance))  # of equal sets rounding leaves -1e-14


def _compared(generated: Tensor, reference: Moments | MeanAndCovariance) -> _Reference:
    if generated.ndim != 2 or generated.shape[1] != reference.dimension:
        raise ValueError(
            f"features must be [N, {reference.dimension}] as the reference's, got {list(generated.shape)}: they are of"
            " two networks"
        )
    return _Reference(reference)


def fid(generated: Rows, reference: Moments | MeanAndCovariance, *, blocks: int = 20) -> Estimate:
    """The distance of generated features [N, d], in the order of their indices, with an interval by a jackknife over
    blocks of them.

    The interval says how much another set of N images would differ; it does not contain the bias, which is positive and
    falls as 1 / N: compare at equal N, or see :func:`fid_without_bias`. ValueError for N < 2 per block.
    """
    to = _compared(generated, reference)
    parts = [Moments.of(p) for p in blocks_of(generated, blocks)]
    whole = sum(parts[1:], parts[0])
    left_out = [to.distance(whole - part) for part in parts]
    return jackknife(to.distance(whole), left_out, images=len(generated), lowest=0.0)


def fid_of_pairs(restored: Rows, truth: Rows, *, blocks: int = 20) -> Estimate:
    """The distance of features [N, d] of restored images from those of their truths [N, d], row by row the same image:
    the value of :func:`fid`.

    The interval is a jackknife that leaves an image out on both sides, because images are what was drawn: the two sets
    have in common what they owe to the choice of images. ValueError for N < 4, or where the two do not have the same
    shape.
    """
    if restored.shape != truth.shape or restored.ndim != 2:
        raise ValueError(f"pairs of features must be [N, d] both, got {list(restored.shape)} and {list(truth.shape)}")
    x, y = ([Moments.of(p) for p in blocks_of(f, blocks)] for f in (restored, truth))
    all_x, all_y = sum(x[1:], x[0]), sum(y[1:], y[0])
    left_out = [frechet_distance(all_x - p, all_y - q) for p, q in zip(x, y, strict=True)]
    return jackknife(frechet_distance(all_x, all_y), left_out, images=len(restored), lowest=0.0)


def fid_without_bias(
    generated: Rows, reference: Moments | MeanAndCovariance, *, sizes: int = 15, blocks: int = 60
) -> float:
    """The intercept of a straight line through (1 / n, FID of n of the N features) for `sizes` numbers n between N / 2
    and N.

    Each n takes runs of neighbouring blocks; which ones is fixed. Chong and Forsyth 2020 (1911.07023), there with
    random subsets. The reference set keeps its own bias. ValueError for fewer than 4 features per block.
    """
    to = _compared(generated, reference)
    parts = [Moments.of(p) for p in blocks_of(generated, blocks)]
    inverse, distance = [], []
    for k in _spread(len(parts) // 2, len(parts), sizes):
        # Several subsets of the same size, each of consecutive blocks from another start: their mean scatters less.
        starts = range(0, len(parts), max(1, len(parts) // 6)) if k < len(parts) else [0]
        for start in starts:
            chosen = [parts[(start + j) % len(parts)] for j in range(k)]
            whole = sum(chosen[1:], chosen[0])
            inverse.append(1 / whole.count)
            distance.append(to.distance(whole))
    x, y = torch.tensor(inverse, dtype=torch.float64), torch.tensor(distance, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def _spread(low: int, high: int, count: int) -> Sequence[int]:
    return sorted({round(v) for v in torch.linspace(low, high, count).tolist()})
