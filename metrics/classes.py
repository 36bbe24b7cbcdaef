"""Which classes images fall into: how many are reached, and how evenly."""

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, DistributionMetric, InFeatures, Missing, SetMetric, Shape
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate, blocks_of, jackknife
from metrics.samples import features_of_samples


class ClassesOfSamples(InFeatures, SetMetric):
    """Of the N samples of one measurement: the number of classes that a classifier sees among them, 1 .. N, and the
    entropy -sum_c q_c log q_c of their shares q_c in nats, 0 .. log N.

    N draws from C equally likely classes show C (1 - (1 - 1/C)^N) of them. A measurement that leaves no doubt has one,
    so neither end is best.

    Args:
        features: a network with probabilities of classes; the config's own `features` where it names none.
    """

    label = "classes among samples"
    parts = ("classes", "class_entropy")

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(name, self.label, lowest=1.0),
            Column(f"{name}_entropy", "their entropy", "nats", of_means=lambda means: means[1], lowest=0.0),
        )

    def check(self, shape: Shape) -> None:
        super().check(shape)
        if self.features.of(torch.zeros(1, *shape, dtype=torch.uint8)).probabilities is None:
            raise Missing(f"the network {self.features.name} gives no probabilities of classes")

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        p = features_of_samples(self.features, samples, truth).probabilities
        if p is None:
            raise Missing(f"the network {self.features.name} gives no probabilities of classes")
        shares = torch.nn.functional.one_hot(p.argmax(2), p.shape[2]).double().mean(1)
        return torch.stack([(shares > 0).sum(1).double(), torch.special.entr(shares).sum(1)], 1).to(samples.device)


class ClassEntropy(DistributionMetric):
    """-sum_c q_c log q_c in nats, q_c the share of the images of a set that a classifier takes for class c: 0 (one
    class) .. log C; the reference is not looked at.

    Beside the value of real images it shows classes that a generator left out or prefers, so neither end is best. Of N
    images of even classes it is too low by about (C - 1) / 2N (Miller 1955).

    Args:
        features: a network with probabilities of classes.
        blocks: of images that the interval leaves out one after the other, at least 2.
    """

    label = "class entropy"
    unit = "nats"
    lowest = 0.0

    def __init__(self, *, features: FeatureNetwork, blocks: int = 20) -> None:
        super().__init__(features=features)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, got {blocks}")
        self.blocks = blocks

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        hits = [part.sum(0) for part in blocks_of(_hits(found, self.features.name), self.blocks)]
        whole = torch.stack(hits).sum(0)
        return jackknife(
            _entropy(whole), [_entropy(whole - part) for part in hits], images=int(whole.sum()), lowest=0.0
        )


class ClassCount(DistributionMetric):
    """#{c: at least `share` of the images of a set are of class c}, as a classifier sees them; the reference is not
    looked at. A class that real images reach and these do not is a mode that was dropped.

    Args:
        features: a network with probabilities of classes.
        share: of the images, above 0 and below 1; a stray misreading is not a class.
    """

    label = "classes reached"
    interval = ""

    def __init__(self, *, features: FeatureNetwork, share: float = 0.001) -> None:
        super().__init__(features=features)
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}")
        self.share = share

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        del reference, paired
        shares = _hits(found, self.features.name).mean(0)
        return Estimate(float((shares >= self.share).sum()), float("nan"), float("nan"))


def _hits(found: Features, network: str) -> Tensor:
    """1 where row n is of class c, float64 [N, C]."""
    if found.probabilities is None:
        raise Missing(f"the network {network} gives no probabilities of classes")
    return torch.nn.functional.one_hot(found.probabilities.argmax(1), found.probabilities.shape[1]).double()


def _entropy(counts: Tensor) -> float:
    return float(torch.special.entr(counts / counts.sum()).sum())
