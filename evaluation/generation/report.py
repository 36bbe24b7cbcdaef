"""report.html of a generation evaluation: one self-contained page with table, quality against steps, and
drawn images.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import yaml

from common.files import write_atomically
from evaluation.generation.plan import Plan
from evaluation.generation.results import MEASURES, Line
from evaluation.report import plots
from evaluation.report.html import COLOURS, page, versions
from evaluation.report.tables import show
from metrics.jackknife import Estimate


def write_report(
    plan: Plan, lines: Sequence[Line], sheets: Mapping[str, Path], path: Path, *, precision: str, notes: Sequence[str]
) -> None:
    """Write the page; notes: what a reader must know, shown at the top."""
    title = plan.config.title or f"Generated images against {plan.config.data['class_path'].rpartition('.')[2]}"
    facts = versions(
        {
            "device": str(plan.device),
            "precision": precision,
            "features": plan.features.name,
            "features' hash": plan.features.fingerprint,
        }
    )
    config = escape(yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True))
    body = [
        f"<h1>{escape(title)}</h1>",
        (
            f"<p class=lead>{plan.config.num_images} images of {len(plan.cells)} samplers, measured against"
            f" {_reference(plan)} by the features of <strong>{escape(plan.features.name)}</strong>, seed"
            f" {plan.config.seed}.</p>"
        ),
        *(f"<p class=note>{escape(note)}</p>" for note in notes),
        _table(lines),
        _curves(lines),
        _sheets(sheets),
        (
            "<section><h2>How this was made</h2><details"
            f" open><summary>Configuration</summary><pre>{config}</pre></details>"
            f"<details><summary>Versions</summary>{facts}</details></section>"
        ),
    ]
    write_atomically(path, page(title, "\n".join(body)))


def _reference(plan: Plan) -> str:
    count = (
        len(plan.reference)
        if plan.config.reference_images is None
        else min(len(plan.reference), plan.config.reference_images)
    )
    return (
        f"{count} images of the {plan.config.reference} split of"
        f" {escape(plan.config.data['class_path'].rpartition('.')[2])}"
    )


def _table(lines: Sequence[Line]) -> str:
    best = {m: _best(lines, m) for m in MEASURES}
    rows = []
    for line in lines:
        cells = []
        for measure in MEASURES:
            text = _interval(line.shown(measure))
            cells.append(
                f"<td class=best><strong>{text}</strong></td>" if line.name == best[measure] else f"<td>{text}</td>"
            )
        steps, nfe = (line.cell.steps, f"{line.nfe:g}") if line.cell else ("–", "–")
        rows.append(
            "<tr><th"
            f" scope=row>{escape(line.sampler)}</th><td>{steps}</td><td>{nfe}</td>{''.join(cells)}<td>{show(line.speed)}</td></tr>"
        )
    head = "".join(f"<th scope=col>{label}<small>{unit}</small></th>" for label, unit, _ in MEASURES.values())
    return (
        "<section><h2>Table</h2><div class=wide><table><thead><tr><th scope=col>sampler</th><th"
        f" scope=col>steps</th><th scope=col>NFE<small>per image</small></th>{head}<th scope=col>speed<small>images /"
        f" s, one process</small></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div><p class=fine>In"
        " brackets 95 % intervals: a jackknife over blocks of generated images for FID and KID, the scatter of ten"
        " splits for IS. FID − best is paired: all samplers start from the same noise, so a difference is surer than"
        " both intervals. FID has a bias that falls with the number of images: compare at equal numbers; N → ∞ is the"
        " straight line's end. Features of another network, or with another hash, give numbers that cannot be compared"
        " with these.</p></section>"
    )


def _best(lines: Sequence[Line], measure: str) -> str | None:
    sign = MEASURES[measure][2]
    values = {line.name: line.shown(measure) for line in lines if line.cell is not None}
    known = {n: sign * e.value for n, e in values.items() if e is not None}
    return max(known, key=known.get) if sign and len(known) > 1 else None


def _interval(e: Estimate | None) -> str:
    if e is None:
        return "–"
    return show(e.value) + ("" if math.isnan(e.low) else f"<small>({show(e.low)}, {show(e.high)})</small>")


def _curves(lines: Sequence[Line]) -> str:
    samplers = list(dict.fromkeys(line.sampler for line in lines if line.cell is not None))
    figures = []
    for measure, (label, unit, sign) in MEASURES.items():
        if not sign:
            continue
        series = []
        for number, sampler in enumerate(samplers):
            points = [
                (line.nfe, line.shown(measure))
                for line in lines
                if line.sampler == sampler and line.shown(measure) is not None
            ]
            series.append(
                (
                    sampler,
                    number % COLOURS,
                    [(nfe, e.value, e.low, e.high) for nfe, e in sorted(points, key=lambda p: p[0])],
                )
            )
        real = next((line.shown(measure) for line in lines if line.cell is None), None)
        name = f"{label} {unit}".strip()
        floor = None if real is None else ("real images", real.value)
        svg = plots.curves(
            series,
            x_label="network evaluations per image",
            y_label=name,
            title=f"{name} against network evaluations",
            floor=floor,
        )
        if svg:
            figures.append(f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>")
    return f"<section><h2>Quality against cost</h2>{''.join(figures)}</section>" if figures else ""


def _sheets(sheets: Mapping[str, Path]) -> str:
    figures = []
    for name, path in sheets.items():
        data = base64.b64encode(path.read_bytes()).decode()
        figures.append(
            f'<figure><figcaption>{escape(name)}</figcaption><img alt="images of {escape(name)}"'
            f' src="data:image/png;base64,{data}"></figure>'
        )
    fine = "<p class=fine>The first indices, not chosen; the same start noise for every sampler.</p>"
    return f"<section><h2>Images</h2><div class=pairs>{''.join(figures)}</div>{fine}</section>" if figures else ""
