"""How sure a classifier is of images: of a digit that nobody reads it is not."""

import torch
from torch import Tensor

from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife


class TopProbability(DistributionMetric):
    """mean_j max_c p(c | y_j), between 1 / classes and 1, higher is better; the reference is not looked at.

    Comparable with the row of real images and by one classifier alone: one that was trained with smoothed labels never
    reaches 1. It says nothing of variety, and a picture far from all that the classifier knows can have a high one:
    look at the sheet. It is the fidelity half of the Inception score (Salimans et al. 2016, 1606.03498).

    Args:
        features: a network with probabilities of classes.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "top probability"
    higher_is_better = True
    lowest = 0.0

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20) -> None:
        super().__init__(features=features)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        if found.probabilities is None:
            raise Missing(f"the network {self.features.name} gives no probabilities of classes")
        top = top_probability(found.probabilities)
        total, count = float(top.sum()), len(top)
        left_out = [(total - float(p.sum())) / (count - len(p)) for p in blocks_of(top, self.blocks)]
        return jackknife(total / count, left_out, images=count, lowest=0.0)


def top_probability(probabilities: Tensor) -> Tensor:
    """max_c p_c of rows [N, C], float64 [N]. ValueError for no classes or rows that are no probabilities."""
    if probabilities.ndim != 2 or not probabilities.shape[1]:
        raise ValueError(f"probabilities must be [N, classes], got {list(probabilities.shape)}")
    p = probabilities.double()
    if bool((p < 0).any()) or not torch.allclose(p.sum(1), torch.ones_like(p[:, 0]), atol=1e-3):
        raise ValueError("the rows of probabilities must be at least 0 and sum to 1")
    return p.max(1).values
