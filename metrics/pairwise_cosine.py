"""How alike images are in the features of a network: the samples of one measurement, or those of a set."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import DistributionMetric, InFeatures, SetMetric
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.samples import features_of_samples


class PairwiseCosine(InFeatures, SetMetric):
    """Mean over pairs i < j of f_i . f_j / (|f_i| |f_j|) = (|sum_k f_k / |f_k||^2 - N) / (N (N - 1)), f_k the features
    of sample k: -1 .. 1, 1 for equal samples; lower is more diverse.

    Neither end is best: samples of an exact posterior are as alike as one is to the truth. Features of a classifier
    that are positive have no cosine below 0. Cohen et al. 2023 (2310.16047) ask how diverse restorations are by the
    like.

    Args:
        features: the network; the config's own `features` where it names none.
    """

    label = "pairwise cosine"
    lowest = -1.0
    highest = 1.0

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return pairwise_cosine(features_of_samples(self.features, samples, truth).features).to(samples.device)


class PairwiseCosineOfSet(DistributionMetric):
    """Mean over pairs i < j of f_i . f_j / (|f_i| |f_j|) of the N images of a set: -1 .. 1, 1 for images that are all
    alike; the reference is not looked at.

    Below the value of real images a set is more scattered than they are, above it more alike, so neither end is best:
    read it beside their row. Images whose features are 0 everywhere have no direction and count as at right angles to
    all others.

    Args:
        features: the network; compare sets in one network.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "pairwise cosine"
    lowest = -1.0

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20) -> None:
        super().__init__(features=features)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        unit = torch.nn.functional.normalize(found.features.double(), dim=1)
        parts = blocks_of(unit, self.blocks)
        sums, squares = [part.sum(0) for part in parts], [float(part.square().sum()) for part in parts]
        whole, square, count = torch.stack(sums).sum(0), sum(squares), len(unit)
        left_out = [
            _mean_of_pairs(whole - s, square - q, count - len(part))
            for s, q, part in zip(sums, squares, parts, strict=True)
        ]
        return jackknife(_mean_of_pairs(whole, square, count), left_out, images=count, lowest=self.lowest)


def _mean_of_pairs(total: Tensor, squares: float, count: int) -> float:
    """Of u_i . u_j over i < j, from sum u_i, sum |u_i|^2 and N."""
    return (float(total.square().sum()) - squares) / (count * (count - 1))


def pairwise_cosine(features: Tensor) -> Tensor:
    """float64 [B] of features [B, N, d], N >= 2; NaN where a feature is 0 everywhere, which has no direction."""
    f = features.double()
    f = f / f.norm(dim=2, keepdim=True)
    N = f.shape[1]
    return ((f.sum(1).square().sum(1) - N) / (N * (N - 1))).clamp(-1, 1).to(torch.float64)
