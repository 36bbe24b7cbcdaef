"""The numbers of a generation evaluation: one line for each sampler and number of steps, and one for real images."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.table import Table

from common.files import write_atomically
from evaluation.bias import write_bias
from evaluation.generation.chunks import Drawn, chunks_of
from evaluation.generation.measures import Quality, quality
from evaluation.generation.plan import Cell, Plan
from evaluation.report.pages import show
from evaluation.report.tables import FEW, words_of_few
from metrics.base import Column
from metrics.features import Features
from metrics.jackknife import Estimate, difference

HEADER = (
    "sampler",
    "steps",
    "nfe",
    "images",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "images_per_second",
    "features",
    "fingerprint",
)
REAL = "real images"


@dataclass(frozen=True)
class Line:
    """What is said of one set of images. cell is None for real ones. nfe: network evaluations per image. speed: images
    per second of one process. above_best: the main metric minus that of the best cell, paired by the start noise that
    all cells share; empty for the best one.
    """

    cell: Cell | None
    quality: Quality
    images: int
    nfe: float
    speed: float
    above_best: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def sampler(self) -> str:
        return REAL if self.cell is None else self.cell.sampler_name

    @property
    def name(self) -> str:
        return REAL if self.cell is None else self.cell.name

    def values(self) -> dict[str, Estimate]:
        """Estimates of all that can be said, by name."""
        return {**self.quality.numbers, **self.above_best}

    def shown(self, column: Column) -> Estimate | None:
        """An estimate in the unit of tables (KID times 1000)."""
        found = self.values().get(column.name)
        if found is None or column.factor == 1:
            return found
        value, low, high = (column.factor * v for v in (found.value, found.low, found.high))
        return Estimate(value, low, high)


def main_metric(plan: Plan) -> str | None:
    """The metric that cells are ranked by: the first that has a best end."""
    return next((name for name, metric in plan.metrics.items() if metric.higher_is_better is not None), None)


def columns_of(plan: Plan) -> list[Column]:
    """What tables show, in the order of the configuration; behind the main metric how far a cell is from the best."""
    columns = []
    for name, metric in plan.metrics.items():
        columns += metric.columns(name)
        if name == main_metric(plan):
            columns.append(Column(f"{name}_above_best", f"{metric.label} − best", metric.unit, factor=metric.factor))
    return columns


def best_of(plan: Plan, lines: Sequence[Line], name: str) -> Line | None:
    """The drawn line with the best value of a metric; None where no line has one."""
    sign = -1 if plan.metrics[name].higher_is_better else 1
    known = [line for line in lines if line.cell is not None and name in line.quality.numbers]
    return min(known, key=lambda line: sign * line.quality[name].value, default=None)


def lines_of(plan: Plan, drawn: dict[int, list[Drawn]], reference: Features, real: Features | None) -> list[Line]:
    """Every cell's metrics; the chunks of a cell are in the order of their indices."""
    lines = []
    if real is not None:
        lines.append(Line(None, quality(plan.metrics, real, reference), len(real.features), 0, math.nan))
    for number, cell in enumerate(plan.cells):
        parts = drawn[number]
        count, seconds = sum(p.count for p in parts), sum(p.seconds for p in parts)
        nfe = sum(p.nfe * p.count for p in parts) / count
        found = Features.joined([p.features for p in parts])
        lines.append(Line(cell, quality(plan.metrics, found, reference), len(found.features), nfe, count / seconds))
    name = main_metric(plan)
    if name is None or (best := best_of(plan, lines, name)) is None:
        return lines
    return [_compared(line, best, name) for line in lines]


def _compared(line: Line, best: Line, name: str) -> Line:
    """With the paired difference from the best line, where both come from a jackknife over as many blocks."""
    numbers = line.quality.numbers
    if line.cell is None or line is best or name not in numbers or not numbers[name].left_out:
        return line
    return replace(line, above_best={f"{name}_above_best": difference(numbers[name], best.quality[name])})


def is_of_few(plan: Plan, line: Line, column: Column) -> bool:
    """Whether a number is of, or against, fewer images than its metric wants; marked in every table."""
    metric = plan.metrics.get(column.name)
    if metric is None or line.shown(column) is None:
        return False
    images = line.images if metric.has_reference else min(line.images, plan.reference_images)
    return images < metric.wanted()


def sentences(plan: Plan, lines: Sequence[Line]) -> list[str]:
    """What is said below the table: why a number or an interval is missing, what the mark of few images means."""
    said = dict.fromkeys(reason for line in lines for reason in line.quality.missing.values())
    few = {c.name for c in columns_of(plan) for line in lines if is_of_few(plan, line, c)}
    return [*said, *(words_of_few(metric) for name, metric in plan.metrics.items() if name in few)]


def complete(plan: Plan, drawn: dict[int, list[Drawn]]) -> bool:
    """Whether all chunks are there."""
    return sum(len(parts) for parts in drawn.values()) == len(chunks_of(plan))


def write_table(plan: Plan, lines: Sequence[Line], path: Path) -> None:
    """table.csv: a row per measure, in plain units (KID not multiplied); what cannot be said has no row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)

    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.8g}"

    for line in lines:
        steps, mark = ("", "") if line.cell is None else (line.cell.steps, line.cell.fingerprint)
        for name, e in line.values().items():
            ends = (number(e.value), number(e.low), number(e.high))
            writer.writerow(
                [
                    line.sampler,
                    steps,
                    f"{line.nfe:g}",
                    line.images,
                    name,
                    *ends,
                    number(line.speed),
                    plan.features.name,
                    mark,
                ]
            )
    write_atomically(path, text.getvalue())
    mark = plan.features.fingerprint
    curves = {(line.name, m, line.images): points for line in lines for m, points in line.quality.by_images.items()}
    write_bias(path.parent, {(name, "", m, mark, images): points for (name, m, images), points in curves.items()})


def terminal_table(plan: Plan, lines: Sequence[Line]) -> Table:
    """The table for a terminal: value and half the width of the interval; below it why one is missing."""
    columns = columns_of(plan)
    table = Table(
        title=f"{plan.config.num_images} images each, features {plan.features.name}; ± half of the 95 % interval",
        title_justify="left",
        caption="\n".join(sentences(plan, lines)) or None,
        caption_justify="left",
    )
    for name in ("sampler", "steps", "NFE", *(f"{c.label} {c.unit}".strip() for c in columns), "images / s"):
        table.add_column(name, justify="left" if name == "sampler" else "right", no_wrap=True)
    for line in lines:
        cells = []
        for column in columns:
            e = line.shown(column)
            text = "–" if e is None else show(e.value)
            text += FEW if is_of_few(plan, line, column) else ""
            cells.append(text if e is None or math.isnan(e.low) else f"{text} ±{(e.high - e.low) / 2:.2g}")
        table.add_row(
            line.sampler,
            str(line.cell.steps) if line.cell else "",
            f"{line.nfe:g}" if line.cell else "",
            *cells,
            show(line.speed),
        )
    return table
