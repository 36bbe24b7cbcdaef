"""report.html: one self-contained page that opens without a server or a network."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from common.files import write_atomically
from evaluation.bias import read_bias
from evaluation.plan import Key, Plan
from evaluation.report import plots
from evaluation.report.cases import GAIN, Case, cases
from evaluation.report.pages import (
    COLOURS,
    Number,
    device_in_words,
    intervals_of,
    notes_of,
    picture,
    render,
    show,
    versions,
)
from evaluation.report.standings import Overall, across_tasks, main_column, standings, ties
from evaluation.report.statistics import Interval
from evaluation.report.tables import Results, has_interval, scaled
from evaluation.report.words import words_of
from metrics.base import Column

Figures = list[tuple[str, Markup]]


def write_report(
    plan: Plan, results: Results, sheets: Mapping[str, Path], path: Path, *, title: str, precision: str, note: str = ""
) -> None:
    """Write the page. note: what is not as it should be (cells left out), shown at the top."""
    main = main_column(results)
    figures, costs = _plots(plan, results, main)
    figures += _bias(plan, results, path.parent)
    overall, not_everywhere = across_tasks(results, main, seed=plan.config.seed) if main else ([], [])
    chosen = cases(plan, results, path.parent, main)
    page = render(
        "report/report.html.j2",
        title=title,
        note=note,
        plan=plan,
        results=results,
        images=max(len(task.rows) for task in plan.tasks.values()),
        data=plan.config.data["class_path"].rpartition(".")[2],
        main=main,
        firsts=_firsts(plan, results, main),
        groups=_groups(plan, results),
        standings=_standings(plan, results, main),
        overall=overall,
        not_everywhere=not_everywhere if overall else [],
        cases=chosen,
        case_data=_case_data(chosen),
        gain=GAIN,
        words=words_of(plan),
        networks=_networks(plan, results),
        sheets=[
            {
                "task": task,
                "methods": ", ".join(results.shown(m) for t, m in plan.cells if t == task),
                "data": picture(sheet),
            }
            for task, sheet in sheets.items()
        ],
        plots=figures,
        whole_cost=_costs_of_all(plan, results, main, overall),
        costs=costs,
        config=yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True),
        facts=versions({"device": device_in_words(plan.device), "precision": precision}),
    )
    write_atomically(path, page)


def _firsts(plan: Plan, results: Results, main: Column | None) -> list[dict[str, Any]]:
    """Which method is first in each task, by the first metric whose best end is the highest, and who cannot be told
    from it.
    """
    if main is None:
        return []
    return [
        {
            "method": method,
            "task": task,
            "mean": results.table[task, method][main.name].mean,
            "ties": sorted(ties(results, task, main, seed=plan.config.seed)),
        }
        for task in plan.tasks
        for method in sorted(results.best(task, main))
    ]


def _groups(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """The lines of the table, task by task, with what those of a task have in common."""
    groups: dict[str, dict[str, Any]] = {}
    for (task, method), metrics in results.table.items():
        if task not in groups:
            sigma, sigma_255 = results.sigma[task]
            groups[task] = {
                "task": task,
                "sigma": f"{sigma:.4g}",
                "sigma_255": f"{sigma_255:.4g}",
                "n": 0,
                "rows": [],
                "tied": {c.name: ties(results, task, c, seed=plan.config.seed) for c in results.columns},
            }
        group = groups[task]
        group["n"] = max(group["n"], *(v.n for v in metrics.values()), 0)
        cells = [
            (
                _number(c, metrics.get(c.name), results.is_of_few((task, method), c)),
                method in results.best(task, c),
                method in group["tied"][c.name],
            )
            for c in results.columns
        ]
        group["rows"].append(
            {
                "method": results.shown(method),
                "cells": cells,
                "seconds": results.seconds[task, method],
                "nfe": f"{results.nfe[task, method]:g}",
                "more": [values.get((task, method)) for _, _, values in results.more_costs()],
            }
        )
    return list(groups.values())


def _standings(plan: Plan, results: Results, main: Column | None) -> list[tuple[str, list[dict[str, Any]]]]:
    if main is None:
        return []
    found = []
    for task in plan.tasks:
        lines = standings(results, task, main, seed=plan.config.seed)
        shown = [
            {"method": s.method, "first": s.is_best, "tie": s.is_tie, "behind": s.behind, "rank": s.rank} for s in lines
        ]
        found += [(task, shown)] if shown else []
    return found


def _case_data(chosen: list[Case]) -> Markup:
    """What the script needs to show another method of a case; nothing in it can end the element that it stands in."""
    data = [
        [{"picture": r.picture, "error": r.error, "value": show(r.value)} for r in case.restored] for case in chosen
    ]
    return Markup(json.dumps(data).replace("<", "\\u003c"))


def _number(column: Column, v: Interval | None, few: bool) -> Number | None:
    if v is None or math.isnan(v.mean):
        return None
    v = scaled(column, v)
    return Number(v.mean, v.low, v.high, few)


def _networks(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """What the columns that compare sets of images are of, network by network."""
    shown = {c.name for c in results.columns}
    found = []
    for network, metrics in plan.metrics.by_network():
        used = {name: metric for name, metric in metrics.items() if name in shown}
        if used:
            labels = " and ".join(metric.label for metric in used.values())
            intervals = intervals_of({name: m for name, m in used.items() if has_interval(results.table, name)})
            found.append(
                {"labels": labels, "network": network, "intervals": intervals, "notes": notes_of(used.values())}
            )
    return found


def _plots(plan: Plan, results: Results, main: Column | None) -> tuple[Figures, Figures | None]:
    """A figure for every column, the single images of the main one, and quality over cost where images have it."""
    colour = {name: k % COLOURS for k, name in enumerate(plan.methods)}

    def by_task(column: Column) -> list:
        keys = [(t, [m for (u, m), v in results.table.items() if u == t and column.name in v]) for t in plan.tasks]
        return [
            (t, [(results.shown(m), colour[m], scaled(column, results.table[t, m][column.name])) for m in ms])
            for t, ms in keys
            if ms
        ]

    figures: Figures = []
    for column in results.columns:
        title = f"{column.label} of every method by task, means with 95 % intervals"
        svg = plots.intervals(by_task(column), label=_axis(column), title=title)
        figures += _figure(column.label, svg)
    if main is None or main.name not in plan.metrics.row_columns:
        return figures, None
    groups = []
    for task in plan.tasks:
        lines = [
            (results.shown(m), colour[m], list(v[main.name].values()))
            for (t, m), v in results.per_image.items()
            if t == task
        ]
        groups.append((task, lines))
    title = f"{main.label} of every image by task and method"
    figures += _figure(f"{main.label} of single images", plots.strips(groups, label=_axis(main), title=title))
    return figures, _costs(plan, results, main, colour)


def _bias(plan: Plan, results: Results, folder: Path) -> Figures:
    """How a metric of sets falls with the number of images, where it was measured."""
    measured = read_bias(folder)
    figures: Figures = []
    for name, metric in plan.metrics.sets.items():
        for task in plan.tasks:
            series = []
            for number, method in enumerate(plan.methods):
                v = results.table.get((task, method), {}).get(name)
                points = measured.get((task, method, name, metric.features.fingerprint, v.n), []) if v else []
                if len(points) > 1:
                    line = [(float(n), value * metric.factor, math.nan, math.nan) for n, value in points]
                    series.append((results.shown(method), number % COLOURS, line))
            title = f"{metric.label} by number of images, {task}"
            svg = plots.curves(series, x_label="images", y_label=metric.label, title=title)
            figures += _figure(f"{metric.label} by number of images: {task}", svg)
    return figures


def _costs_of_all(plan: Plan, results: Results, main: Column | None, overall: list[Overall]) -> Figures:
    """Quality over time and over network calls, means over all tasks of the methods that did all of them, with every
    task as a faint dot; nothing where fewer than two methods have such a cost.
    """
    if main is None or not overall:
        return []
    tasks = list(dict.fromkeys(task for task, _ in results.table))
    colour = {name: k % COLOURS for k, name in enumerate(plan.methods)}
    figures: Figures = []
    for cost, values, unit in _cost_kinds(results):
        points, faint = [], []
        for method in (o.method for o in overall):
            pairs = [(t, values[t, method], scaled(main, results.table[t, method][main.name]).mean) for t in tasks]
            a, b = sum(c for _, c, _ in pairs) / len(pairs), sum(q for _, _, q in pairs) / len(pairs)
            hint = f"{method}, mean of {len(tasks)} tasks: {a:.4g} {unit}, {b:.4g} {main.unit}"
            points.append((results.shown(method), colour[method], a, b, hint))
            faint += [
                (colour[method], c, q, f"{method}, {t}: {c:.4g} {unit}, {q:.4g} {main.unit}") for t, c, q in pairs
            ]
        if sum(p[2] > 0 for p in points) < 2:
            continue
        title = f"{main.label} over {cost}, means of {len(tasks)} tasks"
        svg = plots.scatter(points, x_label=unit, y_label=_axis(main), title=title, faint=faint, front=True)
        figures += _figure(f"{main.label} over {cost}, all tasks", svg)
    return figures


def _cost_kinds(results: Results) -> tuple[tuple[str, Mapping[Key, float], str], ...]:
    return (
        ("time", results.seconds, "seconds per sample"),
        ("network calls", results.nfe, "network calls per sample"),
    )


def _costs(plan: Plan, results: Results, main: Column, colour: Mapping[str, int]) -> Figures:
    """Quality over time and over network calls, task by task; only where two methods have such a cost."""
    figures: Figures = []
    for task in plan.tasks:
        for cost, values, unit in _cost_kinds(results):
            points = []
            for (t, m), v in results.table.items():
                if t == task:
                    hint = f"{m}: {values[t, m]:.4g} {unit}, {v[main.name].mean:.4g} {main.unit}"
                    points.append((results.shown(m), colour[m], values[t, m], v[main.name].mean, hint))
            if sum(p[2] > 0 for p in points) < 2:
                continue
            svg = plots.scatter(points, x_label=unit, y_label=_axis(main), title=f"{main.label} over {cost}, {task}")
            figures += _figure(f"{main.label} over {cost}: {task}", svg)
    return figures


def _axis(column: Column) -> str:
    return f"{column.label}, {column.unit}" if column.unit else column.label


def _figure(caption: str, svg: str) -> Figures:
    return [(caption, Markup(svg))] if svg else []
