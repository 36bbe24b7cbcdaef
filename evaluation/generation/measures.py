"""What is said of a set of generated images: its metrics against a reference set, each with an interval."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.build import build
from common.errors import UserError
from evaluation.entries import Spec
from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork, Features
from metrics.fid import LEAST_PER_DIMENSION
from metrics.jackknife import Estimate

DEFAULT_METRICS: dict[str, Spec] = {
    "fid": {"class_path": "metrics.fid.FID", "init_args": {}},
    "fid_without_bias": {"class_path": "metrics.fid.FIDWithoutBias", "init_args": {}},
    "kid": {"class_path": "metrics.kid.KID", "init_args": {}},
    "inception_score": {"class_path": "metrics.inception_score.InceptionScore", "init_args": {}},
}


@dataclass(frozen=True)
class Quality:
    """Of one set of images.

    Args:
        numbers: estimates by the name of their metric, in plain units (KID not multiplied).
        missing: why a metric has no number or no interval, by its name.
        by_images: (n, value of n of the images) of the metrics that depend on n, by their name.
    """

    numbers: dict[str, Estimate]
    missing: dict[str, str]
    by_images: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Estimate:
        return self.numbers[name]


def metrics_of(network: FeatureNetwork, specs: Mapping[str, Spec] | None = None) -> dict[str, DistributionMetric]:
    """The metrics of generated images, all in the features of one network: those of a configuration (None: the usual
    ones). UserError for another kind of metric, or one with its own network, which drawn images are not kept for.
    """
    found = {}
    for name, spec in (DEFAULT_METRICS if specs is None else specs).items():
        if "features" in spec["init_args"]:
            raise UserError(
                f"metrics.{name}.init_args.features: all metrics of generated images share one network, give it as"
                " 'features'"
            )
        found[name] = build(spec, DistributionMetric, where=f"metrics.{name}", features=network)
    return found


def quality(metrics: Mapping[str, DistributionMetric], generated: Features, reference: Features) -> Quality:
    """Every metric of generated images, in the order of their indices, against a reference set, the latter shuffled."""
    numbers, missing, curves = {}, {}, {}
    for name, metric in metrics.items():
        try:
            numbers[name] = metric.compute(generated, reference)
        except Missing as reason:
            missing[name] = f"{metric.label} is missing: {reason}"
            continue
        if points := metric.by_images(generated, reference, paired=False):
            curves[name] = points
        if reason := metric.without_interval(len(generated.features)):
            missing[name] = reason
    return Quality(numbers, missing, curves)


def too_few(count: int, dimension: int) -> str | None:
    """A sentence where a set is too small for its features, else None."""
    least = LEAST_PER_DIMENSION * dimension
    return (
        f"{count} images are few for {dimension} features: FID's bias is large below {least}" if count < least else None
    )
