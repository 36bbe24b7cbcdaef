"""table.csv: means over images with confidence intervals, of every metric in every cell."""

import csv
import io
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.files import write_atomically
from evaluation.distribution import Distances
from evaluation.plan import Key, Plan
from evaluation.report.statistics import Interval, bootstrap, bootstrap_mean, bootstrap_ratio
from evaluation.rows import Row, cell_text
from evaluation.sets import Sets
from metrics.base import Metric

HEADER = ("task", "method", "metric", "mean", "ci_low", "ci_high", "n")


@dataclass(frozen=True)
class Column:
    """How a metric is shown, multiplied by `factor`. best: +1 the highest, -1 the lowest, 0 none."""

    name: str
    label: str
    unit: str
    best: int
    factor: float = 1.0

    def shown(self, v: Interval) -> Interval:
        """A number of table.csv in the unit of this column."""
        return (
            v
            if self.factor == 1
            else replace(v, mean=v.mean * self.factor, low=v.low * self.factor, high=v.high * self.factor)
        )


@dataclass(frozen=True)
class Results:
    """All that tables, plots and the report show. table: intervals by (task, method), metric. per_image: the numbers
    behind them, by image.
    """

    columns: tuple[Column, ...]
    table: dict[Key, dict[str, Interval]]
    per_image: dict[Key, dict[str, dict[str, float]]]
    seconds: dict[Key, float]
    nfe: dict[Key, float]
    sigma: dict[str, tuple[float, float]]
    oracles: frozenset[str]

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


SET_COLUMNS = (
    Column("psnr_mean", "PSNR of the mean of N", "dB", 1),
    Column("pairwise_rmse", "pairwise RMSE", "in [-1, 1]", 0),
    Column("calibration", "calibration V/B", "1 is right", 0),
)


DISTRIBUTION_COLUMNS = (Column("fid", "FID", "", -1), Column("kid", "KID", "x 1000", -1, factor=1000.0))


def summarise(plan: Plan, rows: list[Row], sets: Sets, distances: Distances) -> Results:
    """Means over images, the samples of one image averaged first; ratios and roots of means over images (calibration,
    pooled RMSE) only here.
    """
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
        for name in plan.metrics:
            samples[key][name][row.image].append(row.values[name])
    per_image = {
        key: {name: {i: sum(v) / len(v) for i, v in images.items()} for name, images in metrics.items()}
        for key, metrics in samples.items()
    }
    table: dict[Key, dict[str, Interval]] = {}
    for key in plan.cells:
        if key not in per_image:
            continue
        table[key] = {name: bootstrap(list(values.values()), seed=seed) for name, values in per_image[key].items()}
        for name, metric in plan.metrics.items():
            if metric.pooled is not None:
                table[key][metric.pooled.name] = bootstrap_mean(
                    list(per_image[key][name].values()), metric.pooled.of_mean, seed=seed
                )
        table[key] |= distances.get(key, {})
        several = [values for (t, m, _), values in sets.items() if (t, m) == key]
        if several:
            table[key]["psnr_mean"] = bootstrap([v["psnr_mean"] for v in several], seed=seed)
            table[key]["pairwise_rmse"] = bootstrap([v["pairwise_rmse"] for v in several], seed=seed)
            table[key]["calibration"] = bootstrap_ratio(
                [v["variance"] for v in several], [v["bias"] for v in several], seed=seed
            )
    columns = [_column(name, metric) for name, metric in plan.metrics.items()]
    columns += [c for c in DISTRIBUTION_COLUMNS if any(c.name in v for v in table.values())]
    columns += [c for c in SET_COLUMNS if any(c.name in v for v in table.values())]
    return Results(
        columns=tuple(columns),
        table=table,
        per_image=per_image,
        seconds={k: sum(v) / len(v) for k, v in seconds.items()},
        nfe={k: sum(v) / len(v) for k, v in nfe.items()},
        sigma=sigma,
        oracles=frozenset(name for name, m in plan.methods.items() if m.method.uses_truth),
    )


def _column(name: str, metric: Metric) -> Column:
    best = {True: 1, False: -1, None: 0}[metric.higher_is_better]
    pooled = metric.pooled
    return (
        Column(name, metric.label, metric.unit, best)
        if pooled is None
        else Column(pooled.name, pooled.label, pooled.unit, best)
    )


def write_table(results: Results, path: Path) -> None:
    """Write table.csv; empty cells for what does not exist (a metric of too small images, an interval of one image)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for (task, method), metrics in results.table.items():
        for name, v in metrics.items():
            writer.writerow([task, method, name, cell_text(v.mean), cell_text(v.low), cell_text(v.high), v.n])
    write_atomically(path, text.getvalue())


def show(value: float) -> str:
    """A number for a person: two decimals from 1 on, four below, a dash for what is missing."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.1e}"


def terminal_table(results: Results) -> Table:
    """The table for a terminal: mean and half the width of the interval, the best of each task in bold."""
    title = "means over images, ± half of the 95 % bootstrap interval"
    if any(c in DISTRIBUTION_COLUMNS for c in results.columns):
        title += "; FID and KID of sample 0 against the true images, jackknife"
    table = Table(title=title, title_justify="left")
    table.add_column("task", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for column in results.columns:
        # a narrow terminal folds numbers and intervals, and cuts nothing off
        table.add_column(f"{column.label}\n{column.unit}", justify="right")
    table.add_column("time\ns / sample", justify="right", no_wrap=True)
    table.add_column("NFE", justify="right", no_wrap=True)
    previous = None
    for (task, method), metrics in results.table.items():
        if previous not in (None, task):
            table.add_section()
        cells = []
        for column in results.columns:
            v = metrics.get(column.name)
            v = None if v is None else column.shown(v)
            text = "–" if v is None or math.isnan(v.mean) else show(v.mean)
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
