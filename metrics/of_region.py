"""Any metric of images or of samples, inside and outside of what a mask took away."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import Column, Metric, MetricBase, SetMetric, Shape

Region = Literal["missing", "measured"]


class OfOneRegion(MetricBase):
    """What a metric of one image and a metric of samples have in common where one region alone is looked at.

    Args:
        metric: which one, of the same kind.
        region: "missing" or "measured" pixels of a mask.
        column: which of its columns, where the metric has several; its first by default.

    Raises:
        ValueError: another region, a column that the metric does not have, or one that is no number of one image.
    """

    def __init__(self, *, metric: MetricBase, region: Region = "missing", column: str | None = None) -> None:
        if region not in ("missing", "measured"):
            raise ValueError(f"region must be missing or measured, got '{region}'")
        self.metric, self.region = metric, region
        name = type(metric).__name__
        found = {c.name: c for c in metric.columns(name)}
        if column is not None and column not in found:
            raise ValueError(f"column must be one of {', '.join(found)}, got '{column}'")
        self._column = found[column or next(iter(found))]
        self._part = _part_of(self._column, len(metric.part_names(name)))
        if self._part is None:
            raise ValueError(
                f"column '{self._column.name}' is computed from several numbers of each image, and has none of one"
                " region: choose another metric"
            )

    def to(self, device: torch.device) -> Self:
        self.metric = self.metric.to(device)
        return self

    def check(self, shape: Shape) -> None:
        self.metric.check(shape)

    def weights(self) -> str:
        return self.metric.fingerprint()

    def columns(self, name: str) -> tuple[Column, ...]:
        of_means = None if self.metric.parts else self._column.of_means  # of several parts the one was taken already
        label = f"{self._column.label}, {self.region} pixels"
        return (replace(self._column, name=name, label=label, of_means=of_means, shown=True),)

    def _alone(self, images: Tensor, truth: Tensor, measurement: Measurement) -> tuple[Tensor, Tensor]:
        """Images [..., C, H, W] with the true pixels outside of the region; which images have any of it, [B]."""
        operator = measurement.operator
        if not operator.keeps_pixels or operator.mask is None:
            return images, torch.zeros(len(truth), dtype=torch.bool, device=truth.device)
        measured = (operator.mask > 0).to(truth.device).expand_as(truth)
        region = measured if self.region == "measured" else ~measured
        one_by_one = images.ndim - truth.ndim
        where = region.reshape(len(truth), *[1] * one_by_one, *truth.shape[1:])
        return torch.where(where, images, truth.reshape(where.shape)), region.flatten(1).any(1)

    def _one(self, values: Tensor, there: Tensor) -> Tensor:
        """The column's number of each image, [B]; NaN for images without the region."""
        found = values.reshape(len(values), -1)[:, self._part].double()
        return torch.where(there.to(found.device), found, torch.nan)


class OfRegion(OfOneRegion, Metric):
    """metric(where(region, x, truth), truth): a metric of one image x whose pixels outside of the region are the true
    ones, so that nothing else makes a difference.

    The number is still of the whole image: the smaller the region, the nearer to that of the truth itself, so compare
    on the same masks. No number where A is no mask, or an image has no pixel of the region.

    Args:
        metric: of one image: SSIM, LPIPS, a distance in features, ...
        region: "missing" or "measured" pixels of a mask.
        column: which of its columns, where the metric has several; its first by default.

    Raises:
        ValueError: another region, a column that the metric does not have, or one that is no number of one image.
    """

    label = "a metric of one region"
    metric: Metric

    def __init__(self, *, metric: Metric, region: Region = "missing", column: str | None = None) -> None:
        super().__init__(metric=metric, region=region, column=column)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        alone, there = self._alone(pixels, truth, measurement)
        return self._one(self.metric(alone, truth, measurement), there)


class SamplesOfRegion(OfOneRegion, SetMetric):
    """metric(where(region, x_k, truth), truth): a metric of several samples x_k of one measurement whose pixels outside
    of the region are the true ones: inside, how what was made up differs; outside, how what was measured does.

    The number is still of whole images: the smaller the region, the nearer to that of N times the truth, so compare on
    the same masks. No number where A is no mask, or an image has no pixel of the region.

    Args:
        metric: of samples: the Vendi score, classes, precision, CRPS, the best of N, ...
        region: "missing" or "measured" pixels of a mask.
        column: which of its columns, where the metric has several (precision, density, truth_reached); its first by
            default.

    Raises:
        ValueError: another region, a column that the metric does not have, or one that is no number of one image.
    """

    label = "a metric of samples, of one region"
    needs_measurement = True
    metric: SetMetric

    def __init__(self, *, metric: SetMetric, region: Region = "missing", column: str | None = None) -> None:
        super().__init__(metric=metric, region=region, column=column)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        if measurement is None:
            raise ValueError("a metric of one region needs the measurement, which says where the region is")
        alone, there = self._alone(samples, truth, measurement)
        return self._one(self.metric(alone, truth, measurement), there)


def _part_of(column: Column, parts: int) -> int | None:
    """Which number of an image the column shows; None where it is computed from several."""
    if column.of_means is None or parts == 1:
        return 0
    with np.errstate(all="ignore"):
        seen = [float(column.of_means([np.asarray(float(i == k)) for i in range(parts)])) for k in range(parts)]
    return seen.index(1.0) if sorted(seen) == [0.0] * (parts - 1) + [1.0] else None
