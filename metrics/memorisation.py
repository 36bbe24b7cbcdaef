"""Are generated images copies of training images?"""

from abc import abstractmethod

import torch
from torch import Tensor

from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.neighbours import nearest


class NearestTrainingImage(DistributionMetric):
    """What the three share: x_1(y), x_2(y) are the nearest and second nearest training images of a generated y, in the
    features of a network; the reference must be the training images, all of them.

    Args:
        features: the network; a classifier's does not see what its classes do not need, so a copy is found and a
            likeness may be overstated: look at the pairs.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    reference_split = "train"
    of_pairs = False
    lowest = 0.0
    note = "Nearness to training images has no best end: compare with the row of real images that were not trained on."

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20) -> None:
        super().__init__(features=features)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if paired:
            raise Missing("is of generated images against training images, not of restored images and their truths")
        if len(reference.features) < 3:
            raise Missing(f"needs at least 3 training images, there are {len(reference.features)}")
        x = reference.features.double()
        values = self.of_each(found.features.double() - x.mean(0), x - x.mean(0))
        total, count = float(values.sum()), len(values)
        left_out = [(total - float(p.sum())) / (count - len(p)) for p in blocks_of(values, self.blocks)]
        return jackknife(total / count, left_out, images=count, lowest=0.0)

    @abstractmethod
    def of_each(self, y: Tensor, x: Tensor) -> Tensor:
        """One number per generated row, float64 [N], whose mean is the metric."""


class TrainingDistanceRatio(NearestTrainingImage):
    """mean_j |y_j - x_1| / |y_j - x_2|: 0 where each image is a copy, near 1 where none is nearer to one training image
    than to others; 0/0 of a copy of two equal ones is 0.

    Compare with the row of real images that were not trained on. Yoon et al. 2023 (Diffusion probabilistic models
    generalize when they fail to memorize, ICML workshop), section 3.

    Args:
        features: the network.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "training distance ratio"

    def of_each(self, y: Tensor, x: Tensor) -> Tensor:
        return distance_ratio(y, x)


class MemorisedShare(NearestTrainingImage):
    """mean_j 1[|y_j - x_1| < threshold |y_j - x_2|]: the share of images that are near to one training image and far
    from all others, 0 .. 1.

    A training set with duplicates hides copies of them. Yoon et al. 2023 (Diffusion probabilistic models generalize
    when they fail to memorize, ICML workshop), section 3, in pixels.

    Args:
        features: the network.
        threshold: of the ratio, above 0 and below 1; a third as in the paper.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "memorised share"

    def __init__(self, *, features: FeatureNetwork, threshold: float = 1 / 3, blocks: int = 20) -> None:
        super().__init__(features=features, blocks=blocks)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
        self.threshold = threshold

    def of_each(self, y: Tensor, x: Tensor) -> Tensor:
        return (distance_ratio(y, x) < self.threshold).double()


class AuthenticShare(NearestTrainingImage):
    """mean_j 1[|y_j - x_1| > min over other x of |x_1 - x|]: the share of images that are farther from their nearest
    training image than that is from the training image nearest to it; 0 where all are copies.

    Images that were not trained on have a share below 1, about one half: compare with their row. Alaa et al. 2022
    (2102.08921), section 4 (authenticity, there with spheres that shrink to nothing).

    Args:
        features: the network.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "authentic share"

    def of_each(self, y: Tensor, x: Tensor) -> Tensor:
        to_first, first = (v[:, 0] for v in nearest(y, x, 1))
        asked, place = first.unique(return_inverse=True)
        around = nearest(x[asked], x, 1, leave=asked)[0][:, 0]
        return (to_first > around[place]).double()


def distance_ratio(y: Tensor, x: Tensor) -> Tensor:
    """|y_j - x_1| / |y_j - x_2| of each row of y [N, d] among x [M, d], both float64 about one mean: float64 [N]."""
    distances = nearest(y, x, 2)[0]
    return torch.where(distances[:, 0] > 0, distances[:, 0] / distances[:, 1], 0.0)
