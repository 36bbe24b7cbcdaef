"""How much of some classes of real images is generated: where a generator leaves out what is rare, it shows here."""

from torch import Tensor, tensor

from metrics.base import Missing
from metrics.features import FeatureNetwork, Features
from metrics.jackknife import Estimate
from metrics.precision_recall import NeighbourMetric, coverage


class CoverageOfClasses(NeighbourMetric):
    """mean_i 1[y_j in B(x_i, r_k(x_i)) for some j] over the real x_i that a classifier takes for some classes: the
    share of them with a generated y nearby, r_k(x_i) the distance to the k-th nearest other one of them; more is
    better.

    It depends on both numbers of images: compare generators of one reference, and read it beside real images, whose
    value is less where a class has fewer images.
    Naeem et al. 2020 (2002.09797), equation 4, class by class.

    Args:
        features: the network, with probabilities of classes.
        classes: of the real images, numbers 0 .. C - 1.
        neighbours: k, at least 1; 5 as in the paper.
        blocks: of generated images that the interval leaves out one after the other, at least 2.
        reference_images: so many of these classes, more than k: the work grows with the product.

    Raises:
        ValueError: options out of range.
    """

    label = "coverage of classes"
    higher_is_better = True
    note = "Coverage depends on both numbers of images: compare at equal ones."

    def __init__(
        self,
        *,
        features: FeatureNetwork,
        classes: list[int],
        neighbours: int = 5,
        blocks: int = 20,
        reference_images: int = 10_000,
    ) -> None:
        super().__init__(features=features, neighbours=neighbours, blocks=blocks, reference_images=reference_images)
        if not classes or min(classes) < 0 or len(set(classes)) < len(classes):
            raise ValueError(f"classes must be one or more different numbers from 0, got {classes}")
        self.classes = sorted(classes)
        some = "class" if len(classes) == 1 else "classes"
        self.label = f"coverage, {some} {', '.join(map(str, self.classes))}"

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        if reference.probabilities is None:
            raise Missing(f"the network {self.features.name} gives no probabilities of classes")
        if self.classes[-1] >= reference.probabilities.shape[1]:
            raise Missing(
                f"the network {self.features.name} has classes 0 .. {reference.probabilities.shape[1] - 1}, not"
                f" {self.classes[-1]}"
            )
        own = (reference.probabilities.argmax(1)[:, None] == tensor(self.classes)).any(1)
        return super().distance(found, reference.rows(own), paired)

    def estimate(self, generated: Tensor, real: Tensor) -> Estimate:
        return coverage(generated, real, neighbours=self.neighbours, blocks=self.blocks)
