"""report.html: one self-contained page that opens without a server or a network."""

import base64
import math
import platform
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from common.files import write_atomically
from evaluation.plan import Plan
from evaluation.report import plots
from evaluation.report.statistics import Interval
from evaluation.report.tables import DISTRIBUTION_COLUMNS, Column, Results, show

COLOURS = 8
_STYLE = Path(__file__).with_name("report.css")


def write_report(
    plan: Plan, results: Results, sheets: Mapping[str, Path], path: Path, *, title: str, precision: str, note: str = ""
) -> None:
    """Write the page. note: what is not as it should be (cells left out), shown at the top."""
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            f"<p class=lead>{_headline(plan, results)}</p>",
            f"<p class=note>{escape(note)}</p>" if note else "",
            _table(plan, results),
            _sheets(plan, results, sheets),
            _plots(plan, results),
            _settings(plan, precision),
        ]
    )
    write_atomically(path, page(title, body))


def page(title: str, body: str) -> str:
    """A whole HTML document with the reports' style."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def versions(facts: Mapping[str, str]) -> str:
    """A table of facts, then the versions of Python and of the packages that numbers depend on."""
    shown = {**facts, "python": platform.python_version()}
    for package in ("torch", "numpy", "Pillow", "scikit-image", "scikit-learn"):
        try:
            shown[package] = version(package)
        except PackageNotFoundError:
            continue
    rows = "".join(f"<tr><th scope=row>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in shown.items())
    return f"<table class=facts>{rows}</table>"


def _headline(plan: Plan, results: Results) -> str:
    """Which method is first in each task, by the first metric that has a best end."""
    column = _main_column(results)
    images = max(len(task.rows) for task in plan.tasks.values())
    text = (
        f"{len(plan.methods)} methods on {len(plan.tasks)} tasks, the same measurements for all: {images}"
        f" {escape(plan.config.split)} images of {escape(plan.config.data['class_path'].rpartition('.')[2])}, seed"
        f" {plan.config.seed}."
    )
    if column is None:
        return text
    firsts = []
    for task in plan.tasks:
        for method in sorted(results.best(task, column)):
            v = results.table[task, method][column.name]
            firsts.append(
                f"<strong>{escape(method)}</strong> for {escape(task)} ({show(v.mean)} {escape(column.unit)})".replace(
                    " )", ")"
                )
            )
    return f"{text} Highest mean {escape(column.label)}: {', '.join(firsts)}." if firsts else text


def _main_column(results: Results) -> Column | None:
    return next((c for c in results.columns if c.best > 0), None)


def _table(plan: Plan, results: Results) -> str:
    head = "".join(f"<th scope=col>{escape(c.label)}<small>{escape(c.unit)}</small></th>" for c in results.columns)
    rows, previous = [], None
    for (task, method), metrics in results.table.items():
        cells = []
        for column in results.columns:
            text = _interval(column, metrics.get(column.name))
            best = method in results.best(task, column)
            cells.append(f"<td class=best><strong>{text}</strong></td>" if best else f"<td>{text}</td>")
        first = ""
        if task != previous:
            span = sum(t == task for t, _ in results.table)
            sigma, sigma_255 = results.sigma[task]
            n = max((v.n for v in metrics.values()), default=0)
            details = f"<small>σ = {sigma:.4g} ({sigma_255:.4g} of 255), n = {n}</small>"
            first = f"<th scope=rowgroup rowspan={span}>{escape(task)}{details}</th>"
        key = (task, method)
        cost = f"<td>{show(results.seconds[key])}</td><td>{results.nfe[key]:g}</td>"
        rows.append(
            f"<tr{' class=first' if first else ''}>{first}<th"
            f" scope=row>{escape(results.shown(method))}</th>{''.join(cells)}{cost}</tr>"
        )
        previous = task
    star = " * reads the truth (an oracle): not comparable, and never marked as best." if results.oracles else ""
    return (
        "<section><h2>Table</h2><div class=wide><table><thead><tr><th scope=col>task</th><th"
        f" scope=col>method</th>{head}<th scope=col>time<small>s / sample</small></th><th scope=col>NFE<small>network"
        f" calls</small></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div><p class=fine>Means over images,"
        " the samples of one image averaged first; in brackets 95 % percentile bootstrap intervals over images."
        " Metrics are computed on the saved 8-bit images; PSNR has range 255 and a cap of 100 dB. Bold: the best mean"
        " of a task, which is not a test of significance. Exact samples of the posterior have an RMSE of Ax − y equal"
        f" to σ. – is missing.{star}</p>{_distances(plan, results)}</section>"
    )


def _distances(plan: Plan, results: Results) -> str:
    """What FID and KID are of; nothing where they are not asked for."""
    if plan.features is None or not any(c in DISTRIBUTION_COLUMNS for c in results.columns):
        return ""
    return (
        "<p class=fine>FID and KID: the restored images (sample 0 of each) against the true ones of the same images,"
        f" in {plan.features.dimension} features of {escape(plan.features.name)} (hash"
        f" {escape(plan.features.fingerprint[:16])}); numbers of another network cannot be compared with these. In"
        " brackets 95 % intervals of a jackknife over blocks of images. FID has a bias that falls with the number of"
        " images: compare at equal numbers. KID leaves out the pairs of an image with its own truth, and has no"
        " bias.</p>"
    )


def _interval(column: Column, v: Interval | None) -> str:
    if v is None or math.isnan(v.mean):
        return "–"
    v = column.shown(v)
    return show(v.mean) + ("" if math.isnan(v.low) else f"<small>({show(v.low)}, {show(v.high)})</small>")


def _sheets(plan: Plan, results: Results, sheets: Mapping[str, Path]) -> str:
    if not sheets:
        return ""
    figures = []
    for task, path in sheets.items():
        methods = ", ".join(results.shown(m) for t, m in plan.cells if t == task)
        alt = escape(f"Sheet of {task}: rows are images; columns are truth, measurement, {methods}", quote=True)
        data = base64.b64encode(path.read_bytes()).decode()
        picture = f'<div class=wide><img alt="{alt}" src="data:image/png;base64,{data}"></div>'
        figures.append(f"<figure><figcaption>{escape(task)}</figcaption>{picture}</figure>")
    fine = (
        "The first images of the set, not chosen. Small images are enlarged pixel by pixel. Blue: pixels that were not"
        " measured."
    )
    return f"<section><h2>Images</h2>{''.join(figures)}<p class=fine>{fine}</p></section>"


def _plots(plan: Plan, results: Results) -> str:
    colour = {name: k % COLOURS for k, name in enumerate(plan.methods)}

    def by_task(column: Column) -> list:
        keys = [(t, [m for (u, m), v in results.table.items() if u == t and column.name in v]) for t in plan.tasks]
        return [
            (t, [(results.shown(m), colour[m], column.shown(results.table[t, m][column.name])) for m in ms])
            for t, ms in keys
            if ms
        ]

    parts = []
    for column in results.columns:
        label = f"{column.label}, {column.unit}" if column.unit else column.label
        svg = plots.intervals(
            by_task(column), label=label, title=f"{column.label} of every method by task, means with 95 % intervals"
        )
        parts.append(f"<figure><figcaption>{escape(column.label)}</figcaption>{svg}</figure>" if svg else "")
    main = _main_column(results)
    if main is not None and main.name in plan.metrics:
        groups = []
        for task in plan.tasks:
            lines = [
                (results.shown(m), colour[m], list(v[main.name].values()))
                for (t, m), v in results.per_image.items()
                if t == task
            ]
            groups.append((task, lines))
        svg = plots.strips(
            groups, label=f"{main.label}, {main.unit}", title=f"{main.label} of every image by task and method"
        )
        parts.append(
            f"<figure><figcaption>{escape(main.label)} of single images</figcaption>{svg}</figure>" if svg else ""
        )
        parts.append(_costs(plan, results, main, colour))
    return f"<section><h2>Plots</h2>{''.join(parts)}</section>"


def _costs(plan: Plan, results: Results, main: Column, colour: Mapping[str, int]) -> str:
    """Quality over time and over network calls, task by task; only where two methods have such a cost."""
    costs = (
        ("time", results.seconds, "seconds per sample"),
        ("network calls", results.nfe, "network calls per sample"),
    )
    figures = []
    for task in plan.tasks:
        for cost, values, unit in costs:
            points = []
            for (t, m), v in results.table.items():
                if t == task:
                    hint = f"{m}: {values[t, m]:.4g} {unit}, {v[main.name].mean:.4g} {main.unit}"
                    points.append((results.shown(m), colour[m], values[t, m], v[main.name].mean, hint))
            if sum(p[2] > 0 for p in points) < 2:
                continue
            svg = plots.scatter(
                points, x_label=unit, y_label=f"{main.label}, {main.unit}", title=f"{main.label} over {cost}, {task}"
            )
            figures.append(
                f"<figure><figcaption>{escape(main.label)} over {cost}: {escape(task)}</figcaption>{svg}</figure>"
                if svg
                else ""
            )
    return f"<div class=pairs>{''.join(figures)}</div>"


def _settings(plan: Plan, precision: str) -> str:
    config = yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True)
    facts = versions({"device": str(plan.device), "precision": precision})
    prints = "".join(
        f"<tr><td>{escape(t)}</td><td>{escape(m)}</td><td><code>{f}</code></td></tr>"
        for (t, m), f in plan.fingerprints.items()
    )
    return (
        "<section><h2>How this was made</h2><details"
        f" open><summary>Configuration</summary><pre>{escape(config)}</pre></details><details><summary>Versions</summary>{facts}</details><details><summary>Fingerprints</summary><p"
        " class=fine>Of all that changes a result: seed, images, task, method, the bytes of its prior,"
        " precision.</p><table class=facts><tr><th scope=col>task</th><th scope=col>method</th><th"
        f" scope=col>fingerprint</th></tr>{prints}</table></details></section>"
    )
