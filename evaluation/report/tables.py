"""table.csv: means over images with confidence intervals, of every metric in every cell."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.files import write_atomically
from evaluation.built_metrics import BuiltMetrics
from evaluation.distribution import Distances
from evaluation.plan import Key, Plan
from evaluation.report.pages import intervals_of, show
from evaluation.report.statistics import Interval, first, in_words, interval_of_means
from evaluation.rows import Row, cell_text
from evaluation.sets import Sets
from metrics.base import Column, DistributionMetric, MetricBase

#: Behind a number of fewer images than its metric wants.
FEW = "†"

HEADER = ("task", "method", "metric", "mean", "ci_low", "ci_high", "n")


def scaled(column: Column, v: Interval) -> Interval:
    """A number of table.csv in the unit of its column."""
    if column.factor == 1:
        return v
    return replace(v, mean=v.mean * column.factor, low=v.low * column.factor, high=v.high * column.factor)


@dataclass(frozen=True)
class Results:
    """All that tables, plots and the report show. table: intervals by (task, method), metric. per_image: the numbers
    behind them, by image. missing: sentences about metrics without a number or an interval. of_sets: labels of the
    columns that compare sets of images. intervals: what those of the means over images are; intervals_of_sets: of the
    other columns, "" for none. backwards: how many of the network calls are gone through backwards; memory: the most MB
    of a cell's batches, where it was measured (evaluation/peak_memory.py). wanted: images below which a column has a
    large bias, by its name. known: what was found of them already (evaluation/report/standings.py).
    """

    columns: tuple[Column, ...]
    table: dict[Key, dict[str, Interval]]
    per_image: dict[Key, dict[str, dict[str, float]]]
    seconds: dict[Key, float]
    nfe: dict[Key, float]
    sigma: dict[str, tuple[float, float]]
    oracles: frozenset[str]
    missing: tuple[str, ...] = ()
    of_sets: tuple[str, ...] = ()
    intervals: str = "none without images"
    intervals_of_sets: str = ""
    backwards: dict[Key, int] = field(default_factory=dict)
    memory: dict[Key, float] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def is_of_few(self, key: Key, column: Column) -> bool:
        """Whether a number is of fewer images than its metric wants; marked in every table."""
        v = self.table[key].get(column.name)
        return v is not None and not math.isnan(v.mean) and v.n < self.wanted.get(column.name, 0)

    def more_costs(self) -> list[tuple[str, str, dict[Key, float]]]:
        """Head, unit and numbers of the columns of cost beside time and calls: those that have a number above 0."""
        found: list[tuple[str, str, dict[Key, float]]] = [
            ("backward", "of the calls", dict(self.backwards)),
            ("memory", "peak MB", self.memory),
        ]
        return [column for column in found if any(column[2].values())]

    def shown(self, method: str) -> str:
        """The name of a method, starred where it reads the truth."""
        return f"{method}*" if method in self.oracles else method

    def best(self, task: str, column: Column) -> frozenset[str]:
        """The methods with the best mean of a column in a task; oracles do not compete."""
        means = {
            m: v[column.name].mean
            for (t, m), v in self.table.items()
            if t == task and column.name in v and m not in self.oracles
        }
        means = {m: v for m, v in means.items() if not math.isnan(v)}
        if not column.best or len(means) < 2:
            return frozenset()
        top = max(means.values()) if column.best > 0 else min(means.values())
        return frozenset(m for m, v in means.items() if v == top)


def summarise(plan: Plan, rows: list[Row], sets: Sets, distances: Distances) -> Results:
    """Means over images, the samples of one image averaged first; functions of means (ratios, roots) only here."""
    seed = plan.config.seed
    samples: dict[Key, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    seconds: dict[Key, list[float]] = defaultdict(list)
    nfe: dict[Key, list[float]] = defaultdict(list)
    sigma = {}
    for row in rows:
        key = (row.task, row.method)
        seconds[key].append(row.seconds)
        nfe[key].append(row.nfe)
        sigma[row.task] = (row.sigma, row.sigma_255)
        of_cell = samples[key]  # there is a line of it also where no metric is of one image
        for name in plan.metrics.row_columns:
            value = math.nan if name in plan.metrics.silent else row.values[name]
            of_cell[name][row.image].append(value)
    per_image = {
        key: {name: {i: sum(v) / len(v) for i, v in images.items()} for name, images in metrics.items()}
        for key, metrics in samples.items()
    }
    of_samples: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (task, method, _), values in sets.items():
        for name, value in values.items():
            of_samples[task, method][name].append(value)
    built = plan.metrics
    table: dict[Key, dict[str, Interval]] = {}
    for key in plan.cells:
        if key not in per_image:
            continue
        numbers = {name: list(values.values()) for name, values in per_image[key].items()}
        table[key] = _intervals(built.image, numbers, seed) | distances.get(key, {})
        if key in of_samples:
            table[key] |= _intervals(built.samples, of_samples[key], seed)
        table[key] |= {name: Interval(math.nan, math.nan, math.nan, 0) for name in built.absent}
    empty = _without_numbers(built, table)
    table = {key: {name: v for name, v in row.items() if name not in empty} for key, row in table.items()}
    there = {name for metrics in table.values() for name in metrics}
    of_image = {c.name for name, metric in built.image.items() for c in metric.columns(name)}
    columns = tuple(c for c in built.columns() if c.shown and c.name in (of_image | there) - empty)
    wanted = {name: metric.wanted() for name, metric in built.sets.items()}
    return Results(
        columns=columns,
        table=table,
        per_image=per_image,
        seconds={k: sum(v) / len(v) for k, v in seconds.items()},
        nfe={k: sum(v) / len(v) for k, v in nfe.items()},
        sigma=sigma,
        oracles=frozenset(name for name, m in plan.methods.items() if m.method.uses_truth),
        missing=(
            *built.missing.values(),
            *_without_interval(built.sets, table),
            *_of_few(built.sets, wanted, table),
            *_fewer_images(plan),
        ),
        of_sets=tuple(c.label for c in columns if c.name in built.sets),
        intervals=in_words(v.n for row in table.values() for name, v in row.items() if v.n and name not in built.sets),
        intervals_of_sets=intervals_of({name: m for name, m in built.sets.items() if has_interval(table, name)}),
        wanted=wanted,
        backwards={(t, m): plan.methods[m].on(t).calls().backwards for t, m in table},
    )


def _without_numbers(metrics: BuiltMetrics, table: Mapping[Key, Mapping[str, Interval]]) -> frozenset[str]:
    """The columns of metrics that have a reason to be missing and no number in any cell: the sentence below the table
    is all that is shown of them.
    """
    rows = {**metrics.image, **metrics.samples}
    reasoned = {c.name for name in metrics.missing if name in rows for c in rows[name].columns(name)}
    reasoned |= set(metrics.absent)
    numbers = {name for row in table.values() for name, v in row.items() if not math.isnan(v.mean)}
    return frozenset(reasoned - numbers)


def _intervals(
    metrics: Mapping[str, MetricBase], numbers: Mapping[str, Sequence[float]], seed: int
) -> dict[str, Interval]:
    """The interval over images of every column: first those that are means, then functions of means.

    numbers: of every image, by part of a metric.
    """
    columns = [(c, metric.part_names(name)) for name, metric in metrics.items() for c in metric.columns(name)]
    columns.sort(key=lambda pair: pair[0].of_means is not None)
    return {
        c.name: interval_of_means([numbers[part] for part in parts], c.of_means or first, seed=seed).within(
            c.lowest, c.highest
        )
        for c, parts in columns
    }


def has_interval(table: Mapping[Key, Mapping[str, Interval]], name: str) -> bool:
    """Whether a column has an interval anywhere in the table."""
    return any(name in row and not math.isnan(row[name].low) for row in table.values())


def _without_interval(
    metrics: Mapping[str, DistributionMetric], table: Mapping[Key, Mapping[str, Interval]]
) -> list[str]:
    """Why a metric of sets has a number and no interval: a sentence for each number of images."""
    found = []
    for name, metric in metrics.items():
        counts = {row[name].n for row in table.values() if name in row and not math.isnan(row[name].mean)}
        found += [reason for n in sorted(counts) if (reason := metric.without_interval(n))]
    return found


def _of_few(
    metrics: Mapping[str, DistributionMetric], wanted: Mapping[str, int], table: Mapping[Key, Mapping[str, Interval]]
) -> list[str]:
    """What the mark of few images says, for each metric that has a number with it."""
    few = {name for row in table.values() for name, v in row.items() if v.n < wanted.get(name, 0) and v.mean == v.mean}
    return [words_of_few(metrics[name]) for name in metrics if name in few]


def words_of_few(metric: DistributionMetric) -> str:
    """What the mark of few images says."""
    return (
        f"{FEW} of fewer than {metric.wanted():,} images, where the bias of {metric.label} is larger than most"
        " differences between methods: compare at equal numbers only"
    )


def _fewer_images(plan: Plan) -> list[str]:
    """A sentence for each number of images that some methods have in place of their task's."""
    found: dict[int, list[str]] = {}
    for task, method in plan.cells:
        rows = plan.rows(task, method)
        if len(rows) < len(plan.tasks[task].rows) and method not in found.setdefault(len(rows), []):
            found[len(rows)].append(method)
    return [f"over the first {n} images alone: {', '.join(methods)}" for n, methods in sorted(found.items())]


def write_table(results: Results, path: Path) -> None:
    """Write table.csv; empty cells for what does not exist (a metric of too small images, an interval of one image)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for (task, method), metrics in results.table.items():
        for name, v in metrics.items():
            writer.writerow([task, method, name, cell_text(v.mean), cell_text(v.low), cell_text(v.high), v.n])
    write_atomically(path, text.getvalue())


def terminal_table(results: Results) -> Table:
    """The table for a terminal: mean and half the width of the interval, the best of each task in bold."""
    title = f"means over images, ± half of the 95 % interval ({results.intervals})"
    if results.of_sets:
        title += f"; {' and '.join(results.of_sets)} of sample 0 against the true images"
        title += f" ({results.intervals_of_sets})" if results.intervals_of_sets else ""
    missing = "\n".join(results.missing) or None
    table = Table(title=title, title_justify="left", caption=missing, caption_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for column in results.columns:
        # a narrow terminal folds numbers and intervals, and cuts nothing off
        table.add_column(f"{column.label}\n{column.unit}", justify="right")
    table.add_column("time\ns / sample", justify="right", no_wrap=True)
    table.add_column("NFE", justify="right", no_wrap=True)
    more = results.more_costs()
    for head, unit, _ in more:
        table.add_column(f"{head}\n{unit}", justify="right", no_wrap=True)
    previous = None
    for (task, method), metrics in results.table.items():
        if previous not in (None, task):
            table.add_section()
        cells = []
        for column in results.columns:
            v = metrics.get(column.name)
            v = None if v is None else scaled(column, v)
            text = "–" if v is None or math.isnan(v.mean) else show(v.mean)
            text += FEW if results.is_of_few((task, method), column) else ""
            if v is not None and not math.isnan(v.low):
                text += f" ±{(v.high - v.low) / 2:.2g}"
            cells.append(f"[bold]{text}[/bold]" if method in results.best(task, column) else text)
        key = (task, method)
        table.add_row(
            task if task != previous else "",
            results.shown(method),
            *cells,
            show(results.seconds[key]),
            f"{results.nfe[key]:g}",
            *(f"{values[key]:.0f}" if key in values else "–" for _, _, values in more),
        )
        previous = task
    return table


def console(table: Table | None = None) -> Console:
    """Standard output, wide enough for a table where it is not a terminal (rich takes 80 columns then)."""
    found = Console()
    if found.is_terminal:
        return found
    wide = Console(width=1000)
    return Console(width=max(160, wide.measure(table).maximum) if table is not None else 160)
