"""A metric over the values of an option: the best one, what it cannot be told apart from, whether it lies at an end."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.report.statistics import Interval, paired_difference
from evaluation.report.tables import Results
from metrics.base import Column


@dataclass(frozen=True)
class Point:
    """The mean of the metric with one value of the option; tied: its mean difference to the best, over the same images,
    may be 0.
    """

    value: Any
    interval: Interval
    tied: bool = False


@dataclass(frozen=True)
class Curve:
    """One task. points: in the order of the values, numbers ascending. best: of them; of equal ones the first."""

    task: str
    column: Column
    points: tuple[Point, ...]
    best: Point

    @property
    def border(self) -> str:
        """A sentence where the best value is the first or the last number of what was tried; "" otherwise."""
        numbers = [p.value for p in self.points if _is_number(p.value)]
        if len(numbers) < len(self.points) or len(numbers) < 2:
            return ""
        if self.best.value == numbers[0]:
            return f"the best value, {self.best.value}, is the smallest that was tried: try smaller ones"
        if self.best.value == numbers[-1]:
            return f"the best value, {self.best.value}, is the largest that was tried: try larger ones"
        return ""


def curve_of(results: Results, folder: Path, task: str, labels: Mapping[str, Any], column: Column) -> Curve:
    """The curve of a task from an evaluation in a folder; labels: values of the option by name of the method."""
    order = sorted(labels, key=lambda name: (not _is_number(labels[name]), _as_number(labels[name])))
    means = {name: results.table[task, name][column.name] for name in order}
    sign = 1 if column.higher_is_better else -1
    finite = [name for name in order if not math.isnan(means[name].mean)]
    best = max(finite, key=lambda name: sign * means[name].mean) if finite else order[0]  # the first of equal ones
    values = _values(folder, task, column.name)
    points = {}
    for name in order:
        both = [image for image in values.get(best, {}) if image in values.get(name, {})]
        difference = paired_difference([values[best][i] for i in both], [values[name][i] for i in both], seed=0)
        equal = means[name].mean == means[best].mean
        tied = name != best and (equal or difference.low <= 0 <= difference.high)
        points[name] = Point(labels[name], means[name], tied)
    return Curve(task, column, tuple(points.values()), points[best])


def described(curve: Curve, option: str) -> list[str]:
    """The curve in lines of text: the values with their means and intervals, ties and ends."""
    unit = f" ({curve.column.unit})" if curve.column.unit else ""
    lines = [f"{curve.task}: {curve.column.label}{unit} by {option}, mean [95 % over images]"]
    for p in curve.points:
        ends = "" if math.isnan(p.interval.low) else f" [{p.interval.low:.4g}, {p.interval.high:.4g}]"
        mark = " best" if p is curve.best else " not told apart from it" if p.tied else ""
        lines.append(f"  {p.value}: {p.interval.mean:.4g}{ends}{mark}")
    if any(p.tied for p in curve.points):
        lines.append("  Not told apart: the 95 % interval of the difference over the same images holds 0.")
    if curve.border:
        lines.append(f"  {curve.border[0].upper()}{curve.border[1:]}.")
    return lines


def _values(folder: Path, task: str, column: str) -> dict[str, dict[str, float]]:
    """The metric by method and image, samples averaged; {} where it is not a number of rows.csv or sets.csv."""
    for name in ("rows.csv", "sets.csv"):
        found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        with open(folder / name, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["task"] == task and row.get(column):
                    found[row["method"]][row["image"]].append(float(row[column]))
        if found:
            return {m: {i: sum(v) / len(v) for i, v in images.items()} for m, images in found.items()}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_number(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0
