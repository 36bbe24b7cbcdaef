"""Whether the samples of one measurement look real, and whether one of them reaches the truth, by balls around real
images.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, InFeatures, Missing, SetMetric, Shape
from metrics.features import FeatureNetwork
from metrics.neighbours import CHUNK, nearest, squared_distances
from metrics.samples import features_of_samples

#: Features this near, by their length about the mean, are of one image: batches of other sizes round otherwise.
SAME = 1e-4


class RealImages(ABC):
    """Real images to compare with, which an evaluation has: those of the training split of its data."""

    @abstractmethod
    def count(self) -> int:
        """How many there are; Missing where they cannot be had."""

    @abstractmethod
    def features(self, network: FeatureNetwork, count: int) -> Tensor:
        """Of so many of them, or all there are, drawn without replacement: [M, d]."""


class PrecisionOfSamples(InFeatures, SetMetric):
    """Of the N samples y_j of one measurement, by balls B(x_i, r) around real images x_i, r = r_k(x_i) the distance of
    x_i to the k-th nearest other real one in the features of a network:

    precision: mean_j 1[y_j in B(x_i, r) for some i], the share that looks real;
    density: mean_j #{i: y_j in B(x_i, r)} / k, about 1 for real images;
    truth_reached: 1[y_j in B(truth, r_k(truth)) for some j], 1 or 0: whether one of the samples is like the truth.

    Real images are those of the training split of the data, whatever split is restored; the truth, where it is one of
    them (`split: train`, or a copy), does not count. What spreads samples may cost precision, and samples that are all
    alike have the most of it: so neither end is best. Precision: Kynkaanniemi et al. 2019 (1904.06991); density and,
    of the truth, coverage: Naeem et al. 2020 (2002.09797).

    Args:
        features: the network; values of two networks cannot be compared.
        reference: the real images, which the evaluation gives.
        neighbours: k, at least 1; 3 as in the paper on precision.
        reference_images: so many real ones, more than k + 1: values depend on their number.

    Raises:
        ValueError: options out of range.
    """

    label = "precision of samples"
    parts = ("precision", "density", "truth_reached")
    unrecorded = InFeatures.unrecorded | {"reference"}

    def __init__(
        self,
        *,
        features: FeatureNetwork,
        reference: RealImages,
        neighbours: int = 3,
        reference_images: int = 5000,
    ) -> None:
        super().__init__(features=features)
        if neighbours < 1 or reference_images <= neighbours + 1:
            raise ValueError(
                "neighbours must be at least 1 and reference_images more than neighbours + 1, got"
                f" {neighbours} and {reference_images}"
            )
        self.reference, self.neighbours, self.reference_images = reference, neighbours, reference_images
        self._real: tuple[Tensor, Tensor, Tensor] | None = None

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(name, self.label, lowest=0.0, highest=1.0),
            Column("density", "density of samples", of_means=lambda means: means[1], lowest=0.0),
            Column(
                "truth_reached",
                "truth reached by a sample",
                of_means=lambda means: means[2],
                lowest=0.0,
                highest=1.0,
            ),
        )

    def check(self, shape: Shape) -> None:
        super().check(shape)
        if (count := self.reference.count()) < self.neighbours + 2:
            raise Missing(f"needs at least {self.neighbours + 2} real images, there are {count}")

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        del measurement
        of_samples = features_of_samples(self.features, samples, truth).features.double()
        of_truths = self.features.of_all(truth).features.double()
        found = [self._of_one(y, t) for y, t in zip(of_samples, of_truths, strict=True)]
        return torch.stack(found).to(samples.device)

    def _of_one(self, y: Tensor, truth: Tensor) -> Tensor:
        """The three parts of samples [N, d] of a truth [d]; NaN where only copies of the truth are real."""
        real, radius, mean = self._balls()
        y, truth = y - mean, (truth - mean)[None]
        other = squared_distances(truth, real)[0] > SAME**2 * truth.square().sum()
        if not other.all():
            if int(other.sum()) <= self.neighbours:
                return torch.full((3,), torch.nan, dtype=torch.float64)
            real = real[other]
            radius = self._radii(real)
        inside = torch.zeros(len(y), dtype=torch.float64)
        for rows, r in zip(real.split(CHUNK), radius.split(CHUNK), strict=True):
            inside += (squared_distances(rows, y) <= r[:, None]).sum(0)
        reach = nearest(truth, real, self.neighbours)[0][0, -1]
        away = (y - truth).square().sum(1).min()
        reached = (away <= reach.square()).double()
        return torch.stack([(inside > 0).double().mean(), inside.mean() / self.neighbours, reached])

    def _balls(self) -> tuple[Tensor, Tensor, Tensor]:
        """Real features about their mean [M, d], the squared radii of their balls [M], their mean [d]; float64."""
        if self._real is None:
            found = self.reference.features(self.features, self.reference_images).double()
            mean = found.mean(0)
            self._real = found - mean, self._radii(found - mean), mean
        return self._real

    def _radii(self, real: Tensor) -> Tensor:
        """The squared distance of each to the k-th nearest other one."""
        return nearest(real, real, self.neighbours, leave=torch.arange(len(real)))[0][:, -1].square()
