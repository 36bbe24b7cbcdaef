"""How alike the samples of one measurement are in the features of a network."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import InFeatures, SetMetric
from metrics.features import FeatureNetwork
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

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        return pairwise_cosine(features_of_samples(self.features, samples, truth).features).to(samples.device)


def pairwise_cosine(features: Tensor) -> Tensor:
    """float64 [B] of features [B, N, d], N >= 2; NaN where a feature is 0 everywhere, which has no direction."""
    f = features.double()
    f = f / f.norm(dim=2, keepdim=True)
    N = f.shape[1]
    return ((f.sum(1).square().sum(1) - N) / (N * (N - 1))).clamp(-1, 1).to(torch.float64)
