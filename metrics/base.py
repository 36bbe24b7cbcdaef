"""The three kinds of metrics: of one image, of the samples of one measurement, of a set of images against another.

A metric is one file with one subclass; a config names it under ``metrics:`` by its class path. Nothing else lists it:
its columns, labels, units and which end is best are its own.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from common.build import Recorded, named_parameters
from common.errors import UserError
from common.renamed import original
from common.weight_files import WeightFile
from degradations.measurement import Measurement
from metrics.features import FeatureNetwork, FeatureRows, Features
from metrics.jackknife import LEAST_FOR_INTERVAL, Estimate, bounded

#: (channels, height, width) of an image
Shape = tuple[int, int, int]


class Missing(UserError):
    """Why a metric gives no number here: weights that are not on this machine, an image that is too small, a set with
    too few images. Tables show the message in one line in place of the number; nothing else stops.
    """


@dataclass(frozen=True)
class Column:
    """One number of the tables: of_means(mean over images of each part of the metric) * factor.

    Args:
        name: in table.csv.
        label: in the header of tables.
        unit: in the header of tables; after the multiplication with `factor`.
        higher_is_better: which end is marked as best; None for neither.
        factor: numbers shown to a person are multiplied by it, those of table.csv are not.
        of_means: of the means over images [...] of the metric's parts, in their order; None takes the first as it is.
        shown: False keeps the number for table.csv alone.
        lowest: what the number cannot be below, before the multiplication; an end of an interval is not either.
        highest: the same above.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    factor: float = 1.0
    of_means: Callable[[Sequence[np.ndarray]], np.ndarray] | None = None
    shown: bool = True
    lowest: float = -math.inf
    highest: float = math.inf

    @property
    def best(self) -> int:
        """+1 where the highest number is best, -1 for the lowest, 0 for neither."""
        return {True: 1, False: -1, None: 0}[self.higher_is_better]


class MetricBase(Recorded, ABC):
    """What the three kinds have in common.

    label: of the metric in tables ("PSNR"). unit: of its numbers ("dB"). higher_is_better: True, False, or None where
    neither end is best (nothing is marked then). factor: numbers shown to a person are multiplied by it. parts: names
    of the numbers per image where there are several; () for one, which has the name that the config gives the metric.
    lowest, highest: what its number cannot be below or above: an interval ends there.
    later: options that came when there were results already, no part of the fingerprint while they have their default.
    """

    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    factor: float = 1.0
    lowest: float = -math.inf
    highest: float = math.inf
    parts: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def kind(self) -> str:
        """What it is of: "image", "samples" or "set"."""

    def to(self, device: torch.device) -> Self:
        """The metric with its weights on a device."""
        del device
        return self

    def check(self, shape: Shape) -> None:
        """Whether images of this shape can be measured, before anything runs.

        Raises:
            Missing: no number exists for such images, or the weights are not there; says why.
            UserError: the metric and the images do not belong together, and the evaluation must not start.
        """

    def fingerprint(self) -> str:
        """A hash of all that numbers depend on: class, options, weights. Missing where the weights are not there."""
        spec = self.spec
        defaults = {n: p.default for n, p in named_parameters(type(self)).items() if p.default is not p.empty}
        options = {n: v for n, v in defaults.items() if n not in self.unrecorded} | spec["init_args"]
        spec["init_args"] = {n: v for n, v in options.items() if n not in self.later or v != defaults[n]}
        parts = [original(spec), self.weights()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def weights(self) -> str:
        """A hash of the metric's weights; "" where it has none."""
        return ""

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        """Files of other projects that it needs with these options, beside those of a feature network; evaluate.py
        --prepare fetches them.
        """
        del options
        return ()

    @classmethod
    def part_names(cls, name: str) -> tuple[str, ...]:
        """Names of the numbers per image of the metric that a config calls `name`."""
        return cls.parts or (name,)

    def columns(self, name: str) -> tuple[Column, ...]:
        """What tables show of the metric that a config calls `name`."""
        return (
            Column(
                name,
                self.label,
                self.unit,
                self.higher_is_better,
                self.factor,
                lowest=self.lowest,
                highest=self.highest,
            ),
        )


class InFeatures(MetricBase):
    """A metric that compares features of images, of whatever kind it is.

    Args:
        features: the network that images are compared in; the config's own `features` where it names none.
    """

    unrecorded = frozenset({"features"})

    def __init__(self, *, features: FeatureNetwork) -> None:
        self.features = features

    def to(self, device: torch.device) -> Self:
        self.features = self.features.to(device)
        return self

    def check(self, shape: Shape) -> None:
        self.features.check(shape)

    def weights(self) -> str:
        return f"{self.features.name} {self.features.fingerprint}"


class Metric(MetricBase):
    """metric(pixels, truth, measurement) -> float64 [B], or [B, P] for P `parts`: one image, on the pixels that are
    saved. Parts become columns of rows.csv.
    """

    def kind(self) -> str:
        return "image"

    @abstractmethod
    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        """One number per image, which does not depend on the images beside it; NaN where there is none.

        Args:
            pixels: one restoration of each image, uint8 [B, C, H, W].
            truth: the images, uint8 [B, C, H, W].
            measurement: what was restored, for metrics that need A and y.

        Raises:
            TypeError: not 8-bit; :func:`metrics.distortion.pixel_pair` and :func:`common.image_range.to_float` say so.
        """


class SetMetric(MetricBase):
    """metric(samples, truth, measurement) -> float64 [B], or [B, P] for P `parts`: several samples of each measurement.
    Parts become columns of sets.csv. needs_measurement: False saves the time of measuring again.
    """

    needs_measurement: bool = False

    def kind(self) -> str:
        return "samples"

    @abstractmethod
    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        """One number per measurement, whatever the order of its samples.

        Args:
            samples: N >= 2 restorations of each image, uint8 [B, N, C, H, W].
            truth: the images, uint8 [B, C, H, W].
            measurement: what was restored; may be None for a metric without `needs_measurement`.

        Raises:
            ValueError: fewer than two samples, other shapes. TypeError: not 8-bit.
        """


class DistributionMetric(InFeatures):
    """distance(features of a set of images, features of a reference) -> number with interval.

    The state is the rows of features by image index (:class:`FeatureRows`); states of batches, processes and shards
    add, and the sum is exactly the state of the whole. Rows and not sums of moments: an interval leaves out blocks
    whose borders depend on the number of images, so that sums would be one covariance per block, larger than the rows
    up to 2 * blocks * dimension images; and a kernel distance needs all pairs.

    least: images that it needs. interval: where the ends of its interval come from, "" for none. least_for_interval:
    images that the interval needs.
    note: a sentence below the table. reference_split: the one that the reference must be, None for any. of_pairs:
    False where it is not of restored images and their truths.

    Args:
        features: the network that images are compared in; the config's own `features` where it names none.
    """

    least: int = 4
    interval: str = "a jackknife over blocks of images"
    least_for_interval: int = LEAST_FOR_INTERVAL
    note: str = ""
    reference_split: str | None = None
    of_pairs: bool = True

    def kind(self) -> str:
        return "set"

    def update(self, state: FeatureRows | None, index: Sequence[int], pixels: Tensor) -> FeatureRows:
        """The state with a batch more: images uint8 [B, C, H, W] with their indices. ValueError for an index that is
        there already.
        """
        batch = FeatureRows.of(index, self.features.of(pixels))
        return batch if state is None else state + batch

    def merge(self, states: Sequence[FeatureRows]) -> FeatureRows:
        """The state of all images together, whatever the order of the states."""
        return FeatureRows.joined(states)

    def compute(self, state: FeatureRows | Features, reference: Features, *, paired: bool = False) -> Estimate:
        """The number and its 95 % interval.

        Args:
            state: of the images, or their features in the order of the indices.
            reference: features of the reference set.
            paired: row k of the reference is the truth of row k, as for restored images.

        Raises:
            Missing: too few images, or a network that does not give what is needed.
        """
        found = state.features if isinstance(state, FeatureRows) else state
        if len(found.features) < self.least:
            raise Missing(f"needs at least {self.least} images, there are {len(found.features)}")
        return self.bounded(self.distance(found, reference, paired), len(found.features))

    def bounded(self, estimate: Estimate, images: int) -> Estimate:
        """The estimate without ends that this quantity cannot have, or that so few images cannot bear."""
        return bounded(estimate, images, least=self.least_for_interval, lowest=self.lowest)

    @property
    def has_reference(self) -> bool:
        """Whether it brings a reference along."""
        return False

    def check_data(self, data: str | None, split: str | None) -> None:
        """UserError where it brings a reference along, and that is not of this data set (name of its class; None: of a
        person's pictures) and split (None: any).
        """

    def without_interval(self, images: int) -> str:
        """Why a number of so many images has no interval; "" where it has one, or the metric has none ever."""
        if not self.interval or images >= self.least_for_interval:
            return ""
        return (
            f"{self.label} of {images} images is shown without an interval: {self.interval} needs at least"
            f" {self.least_for_interval}"
        )

    def wanted(self) -> int:
        """Images below which its bias is larger than most differences between methods; 0 where it has none."""
        return 0

    def by_images(self, found: Features, reference: Features, *, paired: bool) -> list[tuple[int, float]]:
        """(n, its value of n of these images) for several n up to all of them, where it depends on n; [] where not."""
        del found, reference, paired
        return []

    @abstractmethod
    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        """The equation of the metric; at least `least` rows are there. Missing where it does not exist."""
