"""report.html of a generation evaluation: one self-contained page with table, quality over cost, drawn images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from common.files import write_atomically
from evaluation.generation.plan import Plan
from evaluation.generation.results import Line, best_of, columns_of, is_of_few, main_metric, sentences
from evaluation.report import plots
from evaluation.report.pages import COLOURS, Number, device_in_words, intervals_of, notes_of, picture, render, versions
from metrics.base import Column


def write_report(
    plan: Plan, lines: Sequence[Line], sheets: Mapping[str, Path], path: Path, *, precision: str, notes: Sequence[str]
) -> None:
    """Write the page; notes: what a reader must know, shown at the top."""
    data, columns = plan.config.data["class_path"].rpartition(".")[2], columns_of(plan)
    facts = {
        "device": device_in_words(plan.device),
        "precision": precision,
        "features": plan.features.name,
        "features' hash": plan.features.fingerprint,
    }
    main = main_metric(plan)
    page = render(
        "generation/report.html.j2",
        title=plan.config.title or f"Generated images against {data}",
        notes=notes,
        plan=plan,
        reference=plan.reference_images,
        data=data,
        columns=columns,
        rows=_rows(plan, lines, columns),
        missing=sentences(plan, lines),
        intervals=intervals_of({name: m for name, m in plan.metrics.items() if _has_interval(lines, name)}),
        above_best=next((c.label for c in columns if c.name == f"{main}_above_best"), None),
        metric_notes=notes_of(plan.metrics.values()),
        curves=_curves(lines, columns),
        bias=_bias(plan, lines),
        sheets={name: picture(sheet) for name, sheet in sheets.items()},
        config=yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True),
        facts=versions(facts),
    )
    write_atomically(path, page)


def _has_interval(lines: Sequence[Line], name: str) -> bool:
    return any(name in line.quality.numbers and not math.isnan(line.quality[name].low) for line in lines)


def _rows(plan: Plan, lines: Sequence[Line], columns: Sequence[Column]) -> list[dict[str, Any]]:
    best = {column.name: _best(plan, lines, column) for column in columns}
    return [
        {
            "sampler": line.sampler,
            "steps": line.cell.steps if line.cell else "–",
            "nfe": f"{line.nfe:g}" if line.cell else "–",
            "cells": [(_number(plan, line, column), line.name == best[column.name]) for column in columns],
            "speed": line.speed,
        }
        for line in lines
    ]


def _best(plan: Plan, lines: Sequence[Line], column: Column) -> str | None:
    """The name of the best cell, where several have a number and one end is best."""
    known = [line for line in lines if line.cell is not None and line.shown(column) is not None]
    found = best_of(plan, lines, column.name) if column.best and len(known) > 1 else None
    return None if found is None else found.name


def _number(plan: Plan, line: Line, column: Column) -> Number | None:
    e = line.shown(column)
    if e is None:
        return None
    return Number(e.value, e.low, e.high, few=is_of_few(plan, line, column))


def _bias(plan: Plan, lines: Sequence[Line]) -> list[tuple[str, Markup]]:
    """How a metric falls with the number of images, of every line."""
    figures = []
    for name, metric in plan.metrics.items():
        series = [
            (
                line.name,
                number % COLOURS,
                [(float(n), v * metric.factor, math.nan, math.nan) for n, v in line.quality.by_images[name]],
            )
            for number, line in enumerate(lines)
            if len(line.quality.by_images.get(name, [])) > 1
        ]
        title = f"{metric.label} by number of images"
        if svg := plots.curves(series, x_label="images", y_label=metric.label, title=title):
            figures.append((title, Markup(svg)))
    return figures


def _curves(lines: Sequence[Line], columns: Sequence[Column]) -> list[tuple[str, Markup]]:
    """Every column with a best end against network evaluations, one line per sampler."""
    samplers = list(dict.fromkeys(line.sampler for line in lines if line.cell is not None))
    figures = []
    for column in columns:
        if not column.best:
            continue
        series = []
        for number, sampler in enumerate(samplers):
            found = [(line.nfe, line.shown(column)) for line in lines if line.sampler == sampler]
            points = sorted(((nfe, e) for nfe, e in found if e is not None), key=lambda p: p[0])
            series.append((sampler, number % COLOURS, [(nfe, e.value, e.low, e.high) for nfe, e in points]))
        real = next((line.shown(column) for line in lines if line.cell is None), None)
        name = f"{column.label} {column.unit}".strip()
        svg = plots.curves(
            series,
            x_label="network evaluations per image",
            y_label=name,
            title=f"{name} against network evaluations",
            floor=None if real is None else ("real images", real.value),
        )
        if svg:
            figures.append((name, Markup(svg)))
    return figures
