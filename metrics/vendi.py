"""The Vendi score: how many different images a set is worth."""

import torch
from torch import Tensor

from common.tensor_shapes import Rows
from degradations.measurement import Measurement
from metrics.base import DistributionMetric, InFeatures, SetMetric
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.samples import features_of_samples


class Vendi(DistributionMetric):
    """exp(-sum_i l_i log l_i), l_i the eigenvalues of K / N, K_ij = f_i . f_j / (|f_i| |f_j|) of the N images of a set:
    1 (all alike) .. min(N, d); the reference is not looked at.

    It grows with N, so compare at equal N and with the row of real images; scattered noise scores as well, so neither
    end is best. Friedman and Dieng 2023 (2210.02410), definition 3.1.

    Args:
        features: the network; compare sets in one network.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "Vendi score"
    lowest = 1.0
    note = "The Vendi score grows with the number of images: compare at equal ones."

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20) -> None:
        super().__init__(features=features)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        unit = _unit(found.features)
        sums = [part.T @ part for part in blocks_of(unit, self.blocks)]
        counts = [len(part) for part in blocks_of(unit, self.blocks)]
        whole, count = torch.stack(sums).sum(0), len(unit)
        left_out = [_score((whole - s) / (count - n)) for s, n in zip(sums, counts, strict=True)]
        return jackknife(_score(whole / count), left_out, images=count, lowest=1.0)


class VendiOfSamples(InFeatures, SetMetric):
    """The Vendi score of the N samples of one measurement: 1 .. N, how many different ones there are among them; see
    :class:`Vendi`.

    Samples of a narrow posterior are rightly alike, so neither end is best: compare at equal N and on one task.
    Friedman and Dieng 2023 (2210.02410), definition 3.1.

    Args:
        features: the network; the config's own `features` where it names none.
    """

    label = "Vendi score of samples"
    lowest = 1.0

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        found = features_of_samples(self.features, samples, truth).features
        return torch.tensor([vendi_score(f) for f in found], dtype=torch.float64, device=samples.device)


def vendi_score(features: Rows) -> float:
    """See :class:`Vendi`, of features [N, d], in float64: by N x N or d x d, whichever is smaller; their eigenvalues
    other than 0 are the same. ValueError for no rows or one that is 0 everywhere, which has no direction.
    """
    unit = _unit(features)
    N, d = unit.shape
    return _score((unit @ unit.T if d >= N else unit.T @ unit) / N)


def _unit(features: Tensor) -> Tensor:
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features must be [N, d] with N at least 1, got {list(features.shape)}")
    f = features.double()
    length = f.norm(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError("a row of features is 0 everywhere: it has no direction that could be compared")
    return f / length


def _score(gram: Tensor) -> float:
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    return float(torch.special.entr(values).sum().exp())
