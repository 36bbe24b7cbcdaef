"""All runs of a sweep in one table: what was swept, what came out, mean and spread over seeds."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import cast

from common.errors import UserError, nearest
from common.files import write_atomically
from sweeps.expand import Combination, Sweep, is_seed, short_keys, short_value
from sweeps.results import read_results
from sweeps.state import Places


@dataclass(frozen=True)
class Row:
    """One run. status: as in sweeps.state; values: metric to its last value, empty unless the run is finished; images,
    seconds: what it took.
    """

    combination: Combination
    status: str
    values: dict[str, float]
    images: int | None
    seconds: float | None


def read_rows(sweep: Sweep, places: Places, metrics: list[str]) -> list[Row]:
    """A row for every combination; a run that is not finished, or whose result belongs to another command, has no
    numbers.
    """
    rows = []
    for combination in sweep.combinations:
        state, folder = places.state(combination), places.run(combination)
        if state.status != "finished":
            rows.append(
                Row(
                    combination,
                    "running or killed" if state.status == "missing" and folder.exists() else state.status,
                    {},
                    None,
                    None,
                )
            )
            continue
        results = read_results(folder)
        rows.append(
            Row(
                combination,
                "finished",
                {m: results.values[m] for m in metrics if m in results.values},
                results.images,
                state.seconds,
            )
        )
    return rows


def runs_csv(sweep: Sweep, rows: list[Row], metrics: list[str]) -> str:
    """One line a run: number, name, swept options, status, metrics, images, seconds."""
    short = short_keys(sweep.swept)
    lines = [["number", "name", *(short[k] for k in sweep.swept), "status", *metrics, "images", "seconds"]]
    for row in rows:
        c = row.combination
        options = [short_value(c.options[k]) for k in sweep.swept]
        numbers = [_plain(row.values.get(m)) for m in metrics]
        lines.append([str(c.number), c.name, *options, row.status, *numbers, _plain(row.images), _plain(row.seconds)])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def markdown(sweep: Sweep, rows: list[Row], metrics: list[str]) -> str:
    """One line a setting: mean and standard deviation (n - 1) over its seeds, how many of them are finished, and what
    is missing; the best is bold.
    """
    keys = [k for k in sweep.swept if not is_seed(k)]
    short = short_keys(sweep.swept)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(short_value(row.combination.options[k]) for k in keys), []).append(row)
    repeated = any(len(g) > 1 for g in groups.values())
    finished = {setting: [r for r in group if r.status == "finished"] for setting, group in groups.items()}
    best = {}
    for metric in metrics:
        complete = {
            s: mean(r.values[metric] for r in g)
            for s, g in finished.items()
            if len(g) == len(groups[s]) and all(metric in r.values for r in g)
        }
        complete = {s: v for s, v in complete.items() if math.isfinite(v)}
        if metric == sweep.metric and complete:
            best[metric] = (min if sweep.minimize else max)(complete, key=lambda setting: complete[setting])
    head = [*(short[k] for k in keys), *metrics, *(["runs"] if repeated else []), "images", "seconds", "missing"]
    lines = [head, ["---"] * len(head)]
    for setting, group in groups.items():
        done = finished[setting]
        numbers = []
        for metric in metrics:
            text = _mean([r.values[metric] for r in done if metric in r.values])
            numbers.append(f"**{text}**" if best.get(metric) == setting else text)
        missing = ", ".join(f"{r.combination.name}: {r.status}" for r in group if r.status != "finished")
        missing = "; ".join(
            filter(
                None, [missing, *(f"{r.combination.name}: no {m}" for r in done for m in metrics if m not in r.values)]
            )
        )
        images = "/".join(sorted({str(r.images) for r in done if r.images is not None}))
        seconds = f"{mean(cast(float, r.seconds) for r in done):.0f}" if done else ""
        lines.append(
            [*setting, *numbers, *([f"{len(done)} of {len(group)}"] if repeated else []), images, seconds, missing]
        )
    count = sum(r.status == "finished" for r in rows)
    over = ", mean ± standard deviation over seeds" if repeated else ""
    goal = "" if sweep.metric is None else f"; {sweep.metric}: {'less' if sweep.minimize else 'more'} is better"
    title = (
        f"{sweep.name}: {count} of {len(rows)} runs finished{over}{goal}. Made by: python sweep.py table {sweep.path}"
    )
    return "\n".join([title, "", *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def write_table(sweep: Sweep, places: Places, metrics: list[str]) -> tuple[str, Path]:
    """(the markdown, its path): OUTPUT/table.md, and OUTPUT/runs.csv beside it."""
    rows = read_rows(sweep, places, metrics)
    _refuse_unknown(sweep, places, rows, metrics)
    text = markdown(sweep, rows, metrics)
    write_atomically(places.output / "runs.csv", runs_csv(sweep, rows, metrics))
    write_atomically(places.output / "table.md", text)
    return text, places.output / "table.md"


def _refuse_unknown(sweep: Sweep, places: Places, rows: list[Row], metrics: list[str]) -> None:
    """UserError for no metric at all, and for one that no finished run has measured."""
    if not metrics:
        raise UserError(f"'{sweep.path}' names no metric: give --metric NAME, one of those in metrics.csv of a run")
    finished = [row for row in rows if row.status == "finished"]
    for metric in metrics:
        own = metric == sweep.metric and len(metrics) > 1  # its column says for each run that it lacks it
        if finished and not own and not any(metric in row.values for row in finished):
            there = sorted({n for row in finished for n in read_results(places.run(row.combination)).values})
            raise UserError(
                f"no finished run of '{sweep.path}' has the metric '{metric}'{nearest(metric, there)}: there is"
                f" {', '.join(there) or 'none'}; give --metric NAME"
            )


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    centre = mean(values)
    if not all(map(math.isfinite, values)):
        return f"{centre:.4g}"
    spread = stdev(values)
    # As many digits as the spread makes sense of.
    digits = 4 if spread == 0 else max(0, min(6, 1 - math.floor(math.log10(spread))))
    return f"{centre:.{digits}f} ± {spread:.{digits}f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"
