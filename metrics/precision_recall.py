"""Precision, recall, density and coverage: how many generated images look real, and how much of what is real is
generated, by balls around features.
"""

import math
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from common.tensor_shapes import OtherRows, Rows
from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.neighbours import squared_distances

CHUNK = 1024  # rows of a matrix of distances that are there at a time


class NeighbourMetric(DistributionMetric):
    """What the four share: r_k(z) is the distance of z to the k-th nearest other point of its own set, and B(z, r) the
    closed ball.

    They depend on both numbers of images: compare at equal ones, and with the row of real images.

    Args:
        features: the network; values of two networks cannot be compared.
        neighbours: k, at least 1.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of the reference, which comes shuffled, more than k: the work grows with the product.
    """

    lowest = 0.0
    of_pairs = False

    def __init__(
        self, *, features: FeatureNetwork, neighbours: int, blocks: int = 20, reference_images: int = 10_000
    ) -> None:
        super().__init__(features=features)
        if neighbours < 1 or blocks < 2 or reference_images <= neighbours:
            raise ValueError(
                "neighbours must be at least 1, blocks at least 2 and reference_images more than neighbours, got"
                f" {neighbours}, {blocks} and {reference_images}"
            )
        self.neighbours, self.blocks, self.reference_images = neighbours, blocks, reference_images
        self.least = max(4, 2 * neighbours + 4)  # half of them, a block less, still have k others

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if paired:
            raise Missing("is of generated images against a reference set, not of restored images and their truths")
        real = reference.features[: self.reference_images]
        if len(real) <= self.neighbours:
            raise Missing(f"needs at least {self.neighbours + 1} images of the reference, there are {len(real)}")
        return self.estimate(found.features, real)

    @abstractmethod
    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        """The metric of features [N, d] against [M, d]."""


class Precision(NeighbourMetric):
    """mean_j 1[y_j in B(x_i, r_k(x_i)) for some i]: the share of generated y that lie among the real x;
    more is better.

    A prior that draws one good image again and again has precision 1: read it beside recall. Kynkaanniemi et al. 2019
    (1904.06991), section 2.

    Args:
        features: the network; values of two networks cannot be compared.
        neighbours: k, at least 1; 3 as in the paper.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of the reference, which comes shuffled, more than k: the work grows with the product.
    """

    label = "precision"
    higher_is_better = True
    note = "Precision and recall depend on both numbers of images: compare at equal ones."

    def __init__(
        self, *, features: FeatureNetwork, neighbours: int = 3, blocks: int = 20, reference_images: int = 10_000
    ) -> None:
        super().__init__(features=features, neighbours=neighbours, blocks=blocks, reference_images=reference_images)

    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        return precision(generated, real, neighbours=self.neighbours, blocks=self.blocks)


class Recall(NeighbourMetric):
    """mean_i 1[x_i in B(y_j, r_k(y_j)) for some j]: the share of real x that lie among the generated y;
    more is better.

    Few or scattered images have large balls: noise can have a recall near 1, read it beside precision. Kynkaanniemi et
    al. 2019 (1904.06991), section 2.

    Args:
        features: the network; values of two networks cannot be compared.
        neighbours: k, at least 1; 3 as in the paper.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of the reference, which comes shuffled, more than k: the work grows with the product.
    """

    label = "recall"
    higher_is_better = True
    note = "Precision and recall depend on both numbers of images: compare at equal ones."

    def __init__(
        self, *, features: FeatureNetwork, neighbours: int = 3, blocks: int = 20, reference_images: int = 10_000
    ) -> None:
        super().__init__(features=features, neighbours=neighbours, blocks=blocks, reference_images=reference_images)

    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        return recall(generated, real, neighbours=self.neighbours, blocks=self.blocks)


class Density(NeighbourMetric):
    """1 / (k N) sum_j #{i: y_j in B(x_i, r_k(x_i))}: in how many balls of the real x a generated y lies, over k.

    About 1 for an equal distribution, above 1 where y prefer where x are dense. Naeem et al. 2020 (2002.09797),
    equation 3.

    Args:
        features: the network; values of two networks cannot be compared.
        neighbours: k, at least 1; 5 as in the paper.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of the reference, which comes shuffled, more than k: the work grows with the product.
    """

    label = "density"
    note = "Density is about 1 for real images, and may exceed it."

    def __init__(
        self, *, features: FeatureNetwork, neighbours: int = 5, blocks: int = 20, reference_images: int = 10_000
    ) -> None:
        super().__init__(features=features, neighbours=neighbours, blocks=blocks, reference_images=reference_images)

    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        return density(generated, real, neighbours=self.neighbours, blocks=self.blocks)


class Coverage(NeighbourMetric):
    """mean_i 1[y_j in B(x_i, r_k(x_i)) for some j]: the share of real x with a generated y nearby; more
    is better.

    1 - prod_{l < k} (M - 1 - l) / (M + N - 1 - l) is expected of N equal to M real images, 0.97 for k = 5 and N = M.
    Its interval is up to twice too wide.
    Naeem et al. 2020 (2002.09797), equations 4 and 9.

    Args:
        features: the network; values of two networks cannot be compared.
        neighbours: k, at least 1; 5 as in the paper.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of the reference, which comes shuffled, more than k: the work grows with the product.
    """

    label = "coverage"
    higher_is_better = True
    note = "Coverage depends on both numbers of images: compare at equal ones."

    def __init__(
        self, *, features: FeatureNetwork, neighbours: int = 5, blocks: int = 20, reference_images: int = 10_000
    ) -> None:
        super().__init__(features=features, neighbours=neighbours, blocks=blocks, reference_images=reference_images)

    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        return coverage(generated, real, neighbours=self.neighbours, blocks=self.blocks)


def precision(generated: Rows, real: OtherRows, *, neighbours: int = 3, blocks: int = 20) -> Estimate:
    """Kynkaanniemi et al. 2019 (1904.06991), equation 2; see :class:`Precision`.

    The interval is a jackknife over blocks of generated features, and where all are in or out, that of Clopper and
    Pearson. ValueError for too few rows or other dimensions.
    """
    inside = _balls_around(generated, real, neighbours).gt(0)
    found = _mean(inside, blocks)
    if found.value in (0, 1) and not math.isnan(found.low):  # blocks cannot differ: Clopper and Pearson's end instead
        end = 1 - 0.025 ** (1 / len(inside))
        return replace(found, low=0.0, high=end) if found.value == 0 else replace(found, low=1 - end, high=1.0)
    return replace(found, high=min(found.high, 1.0))


def density(generated: Rows, real: OtherRows, *, neighbours: int = 5, blocks: int = 20) -> Estimate:
    """Naeem et al. 2020 (2002.09797), equation 3; see :class:`Density`. Interval and errors as of :func:`precision`."""
    return _mean(_balls_around(generated, real, neighbours) / neighbours, blocks)


def recall(generated: Rows, real: OtherRows, *, neighbours: int = 3, blocks: int = 20) -> Estimate:
    """Precision with the two sets exchanged (Kynkaanniemi et al. 2019, 1904.06991, equation 2); see :class:`Recall`.

    The interval leaves out blocks of generated features; balls grow where one of the k neighbours is in the block.
    ValueError for too few rows or other dimensions.
    """
    y, x = _centred(generated, real, neighbours)
    parts = blocks_of(y, blocks)
    radius, left_out = _radii(y, parts, neighbours)
    borders = torch.tensor([0, *(len(p) for p in parts)]).cumsum(0).tolist()
    whole = torch.zeros(len(x), dtype=torch.bool)
    without = torch.zeros(len(parts), len(x), dtype=torch.bool)
    for first in range(0, len(x), CHUNK):
        rows = slice(first, first + CHUNK)
        for c, part in enumerate(parts):
            squares, columns = squared_distances(x[rows], part), slice(borders[c], borders[c + 1])
            whole[rows] |= (squares <= radius[columns]).any(1)
            for b in range(len(parts)):
                if b != c:
                    without[b, rows] |= (squares <= left_out[b, columns]).any(1)
    return _of_shares(_share(whole), [_share(w) for w in without], len(y))


def coverage(generated: Rows, real: OtherRows, *, neighbours: int = 5, blocks: int = 20) -> Estimate:
    """Naeem et al. 2020 (2002.09797), equation 4; see :class:`Coverage`. Interval, errors as of :func:`precision`."""
    y, x = _centred(generated, real, neighbours)
    parts = blocks_of(y, blocks)
    radius = _radii(x, [x], neighbours)[0]
    near = torch.stack(
        [
            torch.cat([(squared_distances(rows, part) <= r[:, None]).any(1) for rows, r in _chunks(x, radius)])
            for part in parts
        ]
    )
    total = near.sum(0)
    return _of_shares(_share(total > 0), [_share(total > n.long()) for n in near], len(y))


def _balls_around(generated: Tensor, real: Tensor, neighbours: int) -> Tensor:
    """In how many balls of the real set each generated row lies, float64 [N]."""
    y, x = _centred(generated, real, neighbours)
    radius = _radii(x, [x], neighbours)[0]
    counts = torch.zeros(len(y), dtype=torch.float64)
    for rows, r in _chunks(x, radius):
        counts += (squared_distances(rows, y) <= r[:, None]).sum(0)
    return counts


def _centred(generated: Tensor, real: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Both in float64 about the mean of the real set, which distances do not change and rounding likes."""
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(f"features must be [N, d] and [M, d], got {list(generated.shape)} and {list(real.shape)}")
    if len(generated) < 2 * neighbours + 4 or len(real) <= neighbours:
        raise ValueError(
            f"{neighbours} neighbours need at least {2 * neighbours + 4} generated and {neighbours + 1} real features,"
            f" got {len(generated)} and {len(real)}"
        )
    mean = real.double().mean(0)
    return generated.double() - mean, real.double() - mean


def _radii(points: Tensor, parts: list[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Squared distance of each point [N] to the k-th nearest other one; the same where one of the parts (`points` in
    order) is left out [parts, N], for the points of the others.
    """
    nearest = torch.full((len(points), len(parts), k), torch.inf, dtype=torch.float64)
    first = 0
    for p, part in enumerate(parts):
        for start in range(0, len(points), CHUNK):
            rows = points[start : start + CHUNK]
            squares = squared_distances(rows, part)
            own = torch.arange(start, start + len(rows)) - first  # where a point meets itself
            inside = (own >= 0) & (own < len(part))
            squares[inside, own[inside]] = torch.inf
            found = squares.topk(min(k, len(part)), dim=1, largest=False).values
            nearest[start : start + len(rows), p, : found.shape[1]] = found
        first += len(part)
    whole = nearest.flatten(1).kthvalue(k, dim=1).values
    left_out = torch.full((len(parts), len(points)), torch.inf, dtype=torch.float64)
    for p in range(len(parts) if len(parts) > 1 else 0):
        left_out[p] = nearest[:, [q for q in range(len(parts)) if q != p]].flatten(1).kthvalue(k, dim=1).values
    return whole, left_out


def _chunks(points: Tensor, radius: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(points.split(CHUNK), radius.split(CHUNK), strict=True))


def _share(inside: Tensor) -> float:
    return float(inside.double().mean())


def _of_shares(value: float, left_out: list[float], images: int) -> Estimate:
    """The jackknife of a number between 0 and 1."""
    found = jackknife(value, left_out, images=images, lowest=0.0)
    return replace(found, high=min(found.high, 1.0))  # in this order, NaN stays NaN


def _mean(values: Tensor, blocks: int) -> Estimate:
    """Of one number per generated row."""
    values = values.double()
    parts = blocks_of(values, blocks)
    total, count = float(values.sum()), len(values)
    left_out = [(total - float(p.sum())) / (count - len(p)) for p in parts]
    return jackknife(total / count, left_out, images=count, lowest=0.0)
