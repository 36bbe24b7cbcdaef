"""Quality against network calls, all methods of an evaluation in one picture: python -m studies.quality_against_calls
RESULTS --output FILE.png

    python -m studies.quality_against_calls results/inverse_problems_mnist_short --output quality.png --metric psnr

A panel for each task: the mean over images of a metric with its 95 % interval (table.csv), over the calls of the
network that a sample took (costs.csv). An open mark is of a method whose calls are gone through backwards too, so that
one costs about two and a half; methods without a network stand at 0. Entries of the same class whose options differ in
their numbers of steps alone are joined by a line. Worse than an axis shows, a method stands at its end with its number.
"""

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.build import build, find_class, named_parameters
from common.command_line import Parser
from common.errors import UserError, nearest, run_cli
from common.files import require_writable_folder
from evaluation.kept_config import kept_config
from evaluation.report.statistics import Interval
from evaluation.report.tables import scaled
from metrics.base import Column, MetricBase
from studies.figures import dark_colours, new_figure, plain_panel, save

#: Options of methods that say how many calls they take.
COUNTS = frozenset({"steps", "iterations", "repeats", "flow_steps", "draws", "jump_length", "jump_repeats"})
MARKS = "osD^vP"
#: Of ten methods of an axis so many at least are inside it; what is worse stands at its end.
INSIDE = 0.8


@dataclass(frozen=True)
class Point:
    """A cell: its method, calls of a sample, whether some go backwards, and the metric in the unit of its column."""

    method: str
    calls: float
    backwards: bool
    value: Interval


def read_points(folder: Path, column: Column) -> dict[str, list[Point]]:
    """The points of each task in the order of the tables; UserError where one of the tables is not there."""
    costs = {(row["task"], row["method"]): row for row in _rows(folder / "costs.csv")}
    found: dict[str, list[Point]] = {}
    for row in _rows(folder / "table.csv"):
        key = (row["task"], row["method"])
        if row["metric"] != column.name or not row["mean"] or key not in costs:
            continue
        mean, low, high = (float(row[name] or math.nan) for name in ("mean", "ci_low", "ci_high"))
        value = scaled(column, Interval(mean, low, high, int(row["n"])))
        backwards = float(costs[key]["backwards"] or 0) > 0
        found.setdefault(row["task"], []).append(Point(row["method"], float(costs[key]["nfe"]), backwards, value))
    return found


def column_of(config: Mapping[str, Any], metric: str) -> Column:
    """The column of that name among those of the evaluation's metrics; UserError where there is none."""
    names = []
    for name, spec in config["metrics"].items():
        for column in _columns(name, spec):
            if column.name == metric:
                return column
            names.append(column.name)
    raise UserError(
        f"--metric {metric}: the evaluation has no such one{nearest(metric, names)}; it has {', '.join(names)}"
    )


def _columns(name: str, spec: Mapping[str, Any]) -> Sequence[Column]:
    """Of one metric. Networks and real images, which the evaluation may have had elsewhere, have no part in them."""
    found = find_class(spec["class_path"], MetricBase, where=f"metrics.{name}")
    without: dict[str, Any] = dict.fromkeys({"features", "reference"} & set(named_parameters(found)))
    options = {k: v for k, v in (spec.get("init_args") or {}).items() if k not in without}
    plain = {"class_path": spec["class_path"], "init_args": options}
    return build(plain, MetricBase, where=f"metrics.{name}", **without).columns(name)


def lines(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Names of methods that are one but for their numbers of steps, in the order of the config."""
    found: dict[str, list[str]] = {}
    for name, entry in methods.items():
        options = {k: v for k, v in (entry.get("init_args") or {}).items() if k not in COUNTS}
        rest = (entry["class_path"], entry.get("prior", "default"), options, entry.get("per_task") or {})
        found.setdefault(yaml.safe_dump(rest), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def axis(points: Sequence[Point], best: int) -> tuple[float, float]:
    """Ends of the axis of quality: those of the better four fifths of the means, with their intervals, and a margin."""
    means = sorted((p.value.mean for p in points), reverse=best >= 0)
    kept = set(means[: max(2, math.ceil(INSIDE * len(means)))])
    ends = [
        v for p in points if p.value.mean in kept for v in (p.value.mean, p.value.low, p.value.high) if math.isfinite(v)
    ]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - room, max(ends) + room


def spread(heights: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Heights of labels, at least `least` from each other between low and high, as near to those given as that allows;
    closer where they do not fit.
    """
    order = sorted(range(len(heights)), key=lambda k: heights[k])
    least = min(least, (high - low) / max(1, len(heights) - 1))
    placed: list[float] = []
    for k in order:  # up from the lowest, then down from the highest
        placed.append(max(heights[k], placed[-1] + least if placed else low))
    top = high
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], top)
        top = placed[place] - least
    found = [0.0] * len(heights)
    for place, k in enumerate(order):
        found[k] = placed[place]
    return found


def aside(calls: Sequence[float]) -> list[float]:
    """Factors of numbers of calls, so that methods of about equally many stand beside each other, in their order."""
    group = [round(4 * math.log10(c)) if c > 0 else -1 for c in calls]
    found = []
    for k, name in enumerate(group):
        members = [j for j, other in enumerate(group) if other == name]
        found.append(1.07 ** (members.index(k) - (len(members) - 1) / 2))
    return found


def draw(points: Mapping[str, Sequence[Point]], column: Column, joined: Sequence[Sequence[str]], output: Path) -> None:
    """The picture, a PNG."""
    positive = [p.calls for line in points.values() for p in line if p.calls > 0]
    if not positive:
        raise UserError("no method of the evaluation called a network, and there is nothing to show over its calls")
    zero, right = min(positive) / 3, max(positive) * 2
    columns = min(3, len(points))
    rows = math.ceil(len(points) / columns)
    figure = new_figure(5.2 * columns, 0.5 + 3.7 * rows)
    styles = _styles([p.method for line in points.values() for p in line])
    for number, (task, line) in enumerate(points.items()):
        panel = plain_panel(figure, rows, columns, number)
        _fill(panel, line, axis(line, column.best), joined, styles, zero=zero, right=right)
        panel.set_xscale("log")
        panel.set_xlim(zero / 1.6, right)
        panel.minorticks_off()
        marks = [10.0**k for k in range(math.ceil(math.log10(min(positive))), math.floor(math.log10(right)) + 1)]
        panel.set_xticks([zero, *marks], ["0", *(f"{m:g}" for m in marks)])
        panel.set_title(f"{task.replace('_', ' ')} (n = {_images(line)})", fontsize=9, loc="left")
        if number >= len(points) - columns:
            panel.set_xlabel("network calls for a sample", fontsize=8)
        if number % columns == 0:
            panel.set_ylabel(" / ".join(filter(None, (column.label, column.unit))), fontsize=8)
    figure.supxlabel(
        "Bars: 95 % intervals over n images. Open: calls that are gone through backwards too. 0: no network. Triangle"
        " at an end of an axis: beyond it, with its number.",
        fontsize=8,
    )
    save(figure, output)


def _fill(
    panel: Any,
    line: Sequence[Point],
    ends: tuple[float, float],
    joined: Sequence[Sequence[str]],
    styles: Mapping[str, dict[str, Any]],
    *,
    zero: float,
    right: float,
) -> None:
    """Marks, intervals, lines and names of one task between the ends of its axis; zero: where 0 calls stand."""
    low, high = ends
    panel.set_ylim(low, high)
    factors = aside([p.calls for p in line])
    at = {
        p.method: (factor * (p.calls or zero), min(max(p.value.mean, low), high))
        for p, factor in zip(line, factors, strict=True)
    }
    for names in joined:
        there = sorted(at[n] for n in names if n in at)
        if there:
            panel.plot(*zip(*there, strict=True), color=styles[next(n for n in names if n in at)]["color"], linewidth=1)
    heights = spread([y for _, y in at.values()], 0.058 * (high - low), low, high)
    for point, label in zip(line, heights, strict=True):
        (x, y), style, value = at[point.method], styles[point.method], point.value
        inside = low <= value.mean <= high
        if inside and math.isfinite(value.low + value.high):
            down, up = max(0.0, value.mean - value.low), max(0.0, value.high - value.mean)
            panel.errorbar(x, y, yerr=[[down], [up]], color=style["color"], linewidth=1)
        mark = style["marker"] if inside else ("v" if value.mean < low else "^")
        face = "white" if point.backwards else style["color"]
        panel.plot(x, y, marker=mark, color=style["color"], markerfacecolor=face, markersize=5.5)
        panel.annotate(
            point.method if inside else f"{point.method} ({value.mean:.3g})",
            (x, y),
            (right, label),
            color=style["color"],
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": style["color"], "linewidth": 0.4, "alpha": 0.5},
        )


def _styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and mark of each method, the same in all panels."""
    dark = dark_colours()
    names = dict.fromkeys(methods)
    return {
        name: {"color": dark[k % len(dark)], "marker": MARKS[k // len(dark) % len(MARKS)]}
        for k, name in enumerate(names)
    }


def _images(points: Sequence[Point]) -> str:
    """ "16", or "16 to 32" where methods saw different numbers of images."""
    counts = sorted({p.value.n for p in points})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(
            f"there is no {path.name} in '{path.parent}': give the folder of a finished evaluation, results/NAME"
        )
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = Parser(
        prog="python -m studies.quality_against_calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder of an evaluation")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="the picture")
    parser.add_argument("--metric", default="psnr", metavar="NAME", help="a column of its table (default: psnr)")
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="only this one, may be given again (default: all)"
    )
    args = parser.parse_args()
    if args.output.suffix != ".png":
        raise UserError(f"--output {args.output}: it is a picture, give a name that ends in .png")
    config = kept_config(args.results)
    if config is None:
        raise UserError(f"there is no config.yaml in '{args.results}': give the folder of an evaluation, results/NAME")
    column = column_of(config, args.metric)
    points = read_points(args.results, column)
    for task in args.task:
        if task not in points:
            raise UserError(
                f"--task {task}: no such task has this metric{nearest(task, points)}; {', '.join(points)} have"
            )
    if not points:
        raise UserError(f"--metric {args.metric}: it has no number in the tables of '{args.results}'")
    chosen = {task: line for task, line in points.items() if not args.task or task in args.task}
    require_writable_folder(args.output.parent, "--output")
    draw(chosen, column, lines(config["methods"]), args.output)


if __name__ == "__main__":
    run_cli(main)
