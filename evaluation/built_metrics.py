"""The metrics of an evaluation, built and checked before anything runs; what cannot be measured has a reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from common.build import build, find_class
from common.errors import UserError
from evaluation.entries import Spec
from evaluation.rows import AFTER, BEFORE
from metrics.base import Column, DistributionMetric, Metric, MetricBase, Missing, SetMetric, Shape
from metrics.features import FeatureNetwork


@dataclass
class BuiltMetrics:
    """By the names of the configuration, in its order.

    image, samples, sets: the three kinds. row_names: of those of one image, built or not; row_columns: their numbers,
    of rows.csv. sample_columns: of sets.csv. missing: a sentence for each metric that gives no number, for some images
    or for all. absent: names of those that could not be built or cannot measure the whole set. not_at: (name, image
    shape) without a number.
    """

    image: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, SetMetric] = field(default_factory=dict)
    sets: dict[str, DistributionMetric] = field(default_factory=dict)
    row_names: tuple[str, ...] = ()
    row_columns: tuple[str, ...] = ()
    sample_columns: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    not_at: frozenset[tuple[str, Shape]] = frozenset()

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
) -> BuiltMetrics:
    """Every metric of a configuration, on the device, shown the shapes of the images.

    Args:
        specs: {name: {class_path, init_args}}.
        features: the network of metrics of sets that name none of their own.
        shapes: of all images.
        device: where they compute.
        measuring: False builds those of one image alone, as a process that only restores needs them.

    Raises:
        UserError: a class that is no metric, an option that does not fit, two metrics with one column, images that a
            metric says do not belong to it. Not for what is :class:`metrics.base.Missing`.
    """
    shapes = list(shapes)
    built, absent, not_at = BuiltMetrics(), [], set()
    shared: FeatureNetwork | None = None
    for name, spec in specs.items():
        where = f"metrics.{name}"
        found = find_class(spec["class_path"], MetricBase, where=where)
        if issubclass(found, Metric):
            built.row_names += (name,)
            built.row_columns += found.part_names(name)
        elif issubclass(found, SetMetric):
            built.sample_columns += found.part_names(name)
        if not measuring and not issubclass(found, Metric):
            continue
        try:
            given = {}
            if issubclass(found, DistributionMetric) and "features" not in spec["init_args"]:
                if features is None:
                    raise UserError(f"{where} compares features: give 'features', or 'init_args.features' of its own")
                shared = shared or build(features, FeatureNetwork, where="features")
                given = {"features": shared}
            metric = build(spec, MetricBase, where=where, **given)
            reasons = _reasons(metric, shapes)
            if len(reasons) < len(shapes):
                metric = metric.to(device)
        except Missing as reason:
            absent.append(name)
            built.missing[name] = f"{getattr(found, 'label', name)} is missing: {reason}"
            continue
        if reasons:
            which = "" if len(reasons) == len(shapes) else " for some of the images"
            built.missing[name] = f"{metric.label} is missing{which}: {next(iter(reasons.values()))}"
            not_at |= {(name, shape) for shape in reasons}
            if isinstance(metric, DistributionMetric):  # of a part of the set it would be another set's number
                absent.append(name)
                continue
        {"image": built.image, "samples": built.samples, "set": built.sets}[metric.kind][name] = metric
    built.absent, built.not_at = tuple(absent), frozenset(not_at)
    _refuse_doubles(built)
    return built


def _reasons(metric: MetricBase, shapes: list[Shape]) -> dict[Shape, Missing]:
    """Why there is no number for images of these shapes."""
    reasons: dict[Shape, Missing] = {}
    for shape in shapes:
        try:
            metric.check(shape)
        except Missing as reason:
            reasons[shape] = reason
    return reasons


def _refuse_doubles(built: BuiltMetrics) -> None:
    for names, what in (
        ([*BEFORE, *built.row_columns, *AFTER], "rows.csv"),
        (["task", "method", "image", "num_samples", *built.sample_columns, *AFTER], "sets.csv"),
        ([*(c.name for c in built.columns()), *built.absent], "table.csv"),
    ):
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"metrics: two columns of {what} would be called '{name}': name one metric otherwise")
