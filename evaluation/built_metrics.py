"""The metrics of an evaluation, built and checked before anything runs; what cannot be measured has a reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from common.build import build, find_class, named_parameters
from common.errors import UserError
from evaluation.entries import Spec, spec_of
from evaluation.rows import AFTER, BEFORE
from metrics.base import Column, DistributionMetric, InFeatures, Metric, MetricBase, Missing, SetMetric, Shape
from metrics.features import FeatureNetwork
from metrics.precision_of_samples import RealImages

GIVE_FEATURES = "give 'features', or 'init_args.features' of its own"


@dataclass
class BuiltMetrics:
    """By the names of the configuration, in its order.

    Args:
        image: metrics of one image.
        samples: metrics of several samples of one measurement.
        sets: metrics of a set of images against another.
        row_names: of all metrics of one image, also of those that could not be built.
        row_columns: their numbers per image and sample, in rows.csv.
        silent: those of them that no image has.
        sample_columns: numbers per image, in sets.csv.
        missing: a sentence for each metric that gives no number for some of the images, or for all.
        absent: names of metrics that could not be built, or cannot measure the whole set.
        not_at: (name, image shape) without a number.
    """

    image: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, SetMetric] = field(default_factory=dict)
    sets: dict[str, DistributionMetric] = field(default_factory=dict)
    row_names: list[str] = field(default_factory=list)
    row_columns: tuple[str, ...] = ()
    silent: set[str] = field(default_factory=set)
    sample_columns: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    not_at: set[tuple[str, Shape]] = field(default_factory=set)

    @property
    def every(self) -> dict[str, MetricBase]:
        """Of all kinds: those of one image first, then those of sets and of several samples, as tables show them."""
        return {**self.image, **self.sets, **self.samples}

    def columns(self) -> list[Column]:
        """Of all kinds, in that order."""
        return [column for name, metric in self.every.items() for column in metric.columns(name)]

    def by_network(self) -> list[tuple[FeatureNetwork, dict[str, DistributionMetric]]]:
        """The metrics of sets that share a feature network, so that it looks at an image once."""
        groups: dict[tuple[str, str], tuple[FeatureNetwork, dict[str, DistributionMetric]]] = {}
        for name, metric in self.sets.items():
            network = metric.features
            groups.setdefault((network.name, network.fingerprint), (network, {}))[1][name] = metric
        return list(groups.values())


def build_metrics(
    specs: dict[str, Spec],
    *,
    features: Spec | None,
    shapes: Iterable[Shape],
    device: torch.device,
    measuring: bool = True,
    reference: RealImages | None = None,
) -> BuiltMetrics:
    """Every metric of a configuration, on the device, shown the shapes of the images.

    Args:
        specs: {name: {class_path, init_args}}.
        features: the network of metrics that compare features and name none of their own.
        shapes: of all images.
        device: where they compute.
        measuring: False builds those of one image alone, as a process that only restores needs them.
        reference: real images, for metrics that compare with them.

    Raises:
        UserError: a class that is no metric, an option that does not fit, two metrics with one column, images that a
            metric says do not belong to it. Not for what is :class:`metrics.base.Missing`.
    """
    shapes = list(shapes)
    built = BuiltMetrics()
    of_config = _OfConfig(features)
    for name, spec in specs.items():
        where = f"metrics.{name}"
        found = find_class(spec["class_path"], MetricBase, where=where)
        if issubclass(found, Metric):
            built.row_names.append(name)
            built.row_columns += found.part_names(name)
        elif not measuring:
            continue
        elif issubclass(found, SetMetric):
            built.sample_columns += found.part_names(name)
        try:
            metric = _built(spec, MetricBase, where, of_config, reference)
            if isinstance(metric, DistributionMetric) and not metric.of_pairs:
                raise Missing("is of generated images against a reference set, not of restored images and their truths")
            reasons = _reasons(metric, shapes)
            if len(reasons) < len(shapes):
                metric = metric.to(device)
        except Missing as reason:
            _leave_out(built, name, found, shapes, dict.fromkeys(shapes, reason))
            built.absent.append(name)
            continue
        _leave_out(built, name, metric, shapes, reasons)
        if reasons and isinstance(metric, DistributionMetric):  # of a part of the set it would be another set's number
            built.absent.append(name)
        else:
            {"image": built.image, "samples": built.samples, "set": built.sets}[metric.kind()][name] = metric
    _refuse_doubles(built)
    return built


class _OfConfig:
    """The feature network of a config, built when the first metric asks for it."""

    def __init__(self, spec: Spec | None) -> None:
        self._spec = spec
        self._network: FeatureNetwork | None = None

    def network(self, where: str) -> FeatureNetwork:
        if self._spec is None:
            raise UserError(f"{where} compares features: {GIVE_FEATURES}")
        self._network = self._network or build(self._spec, FeatureNetwork, where="features")
        return self._network


def _built(
    spec: Spec, base: type[MetricBase], where: str, of_config: _OfConfig, reference: RealImages | None
) -> MetricBase:
    """A metric with what an evaluation gives it, and so the metric inside of it."""
    found = find_class(spec["class_path"], base, where=where)
    parameters = named_parameters(found)
    options, given = dict(spec["init_args"]), dict[str, Any]()
    if issubclass(found, InFeatures) and "features" not in options:
        given["features"] = of_config.network(where)
    if "reference" in parameters:
        if reference is None:
            raise Missing("compares with real images, and there are none here")
        given["reference"] = reference
    if "metric" in parameters and "metric" in options:
        inner = f"{where}.metric"
        given["metric"] = _built(
            spec_of(options.pop("metric"), inner), parameters["metric"].annotation, inner, of_config, reference
        )
    return build(spec | {"init_args": options}, MetricBase, where=where, **given)


def _reasons(metric: MetricBase, shapes: list[Shape]) -> dict[Shape, Missing]:
    """Why there is no number for images of these shapes."""
    reasons: dict[Shape, Missing] = {}
    for shape in shapes:
        try:
            metric.check(shape)
        except Missing as reason:
            reasons[shape] = reason
    return reasons


def _leave_out(
    built: BuiltMetrics,
    name: str,
    metric: MetricBase | type[MetricBase],
    shapes: list[Shape],
    reasons: dict[Shape, Missing],
) -> None:
    """Note where a metric gives no number."""
    if not reasons:
        return
    everywhere = len(reasons) == len(shapes)
    which = "" if everywhere else " for some of the images"
    built.missing[name] = f"{getattr(metric, 'label', name)} is missing{which}: {next(iter(reasons.values()))}"
    built.not_at |= {(name, shape) for shape in reasons}
    if everywhere and name in built.row_names:
        built.silent |= set(metric.part_names(name))


def _refuse_doubles(built: BuiltMetrics) -> None:
    for names, what in (
        ([*BEFORE, *built.row_columns, *AFTER], "rows.csv"),
        (["task", "method", "image", "num_samples", *built.sample_columns, *AFTER], "sets.csv"),
        ([*(c.name for c in built.columns()), *built.absent], "table.csv"),
    ):
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"metrics: two columns of {what} would be called '{name}': name one metric otherwise")
