"""The Inception score: how sure a classifier is of each image, and how evenly the images cover its classes."""

import math

import torch
from torch import Tensor

from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, quantile


class InceptionScore(DistributionMetric):
    """exp(E_x KL(p(y | x) || p(y))), between 1 and the number of classes, higher is better; the reference is not looked
    at; see :func:`inception_score`. Salimans et al. 2016 (1606.03498), section 4.

    Args:
        features: a network with probabilities of classes; the published numbers are of Inception's.
        splits: the mean is over so many sets of neighbours, at least 2; 10 as in the papers, because the score of a
            small set is too low.
    """

    label = "IS"
    higher_is_better = True
    lowest = 1.0

    def __init__(self, *, features: FeatureNetwork, splits: int = 10) -> None:
        super().__init__(features=features)
        if splits < 2:
            raise ValueError(f"splits must be at least 2, got {splits}")
        self.splits, self.interval = splits, f"the scatter of {splits} splits"
        self.least = self.least_for_interval = 2 * splits  # as few as there can be

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        if found.probabilities is None:
            raise Missing(f"the network {self.features.name} gives no probabilities of classes")
        return inception_score(found.probabilities, splits=self.splits)


def inception_score(probabilities: Tensor, *, splits: int = 10) -> Estimate:
    """Mean over splits of exp(E_x KL(p(y | x) || p(y))), between 1 and the number of classes; the interval is mean -+ q
    sd / sqrt(splits), q Student's, and keeps to these bounds.

    probabilities: [N, K] in the order of the images' indices; a split is a run of neighbours. As in the papers p(y) is
    that of the split, so the score of few images is too low: compare at equal N. With another classifier than Inception
    the score is comparable inside a table only. Salimans et al. 2016 (1606.03498), section 4. ValueError for N < 2
    splits or rows that are no probabilities.
    """
    if probabilities.ndim != 2 or splits < 2 or len(probabilities) < 2 * splits:
        raise ValueError(
            f"probabilities must be [N, K] with at least 2 rows for each of {splits} splits (at least 2), got"
            f" {list(probabilities.shape)}"
        )
    p = probabilities.double()
    if bool((p < 0).any()) or not torch.allclose(
        p.sum(1), torch.ones(len(p), dtype=p.dtype, device=p.device), atol=1e-3
    ):
        raise ValueError("the rows of probabilities must be at least 0 and sum to 1")
    scores = torch.stack([_score(part) for part in p.tensor_split(splits)])
    mean, half = float(scores.mean()), quantile(splits) * float(scores.std()) / math.sqrt(splits)
    return Estimate(mean, max(1.0, mean - half), min(float(p.shape[1]), mean + half))


def _score(p: Tensor) -> Tensor:
    marginal = p.mean(0, keepdim=True)
    # 0 log 0 = 0: xlogy knows it.
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, marginal)).sum(1).mean().exp()
