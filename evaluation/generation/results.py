"""The numbers of a generation evaluation: one line for each sampler and number of steps, and one for real images."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from common.files import write_atomically
from evaluation.generation.chunks import Drawn, chunks_of
from evaluation.generation.measures import Quality, quality
from evaluation.generation.plan import Cell, Plan
from evaluation.report.tables import show
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
MEASURES = {  # name: (label, unit, which sign is better; 0: no curve and no best)
    "fid": ("FID", "", -1),
    "fid_above_best": ("FID − best", "", 0),
    "fid_without_bias": ("FID, N → ∞", "", 0),
    "kid": ("KID", "x 1000", -1),
    "inception_score": ("IS", "", 1),
}
REAL = "real images"


@dataclass(frozen=True)
class Line:
    """What is said of one set of images. cell is None for real ones. nfe: network evaluations per image. speed: images
    per second of one process. above_best: FID minus that of the best cell, paired by the start noise that all cells
    share; None for the best one.
    """

    cell: Cell | None
    quality: Quality
    images: int
    nfe: float
    speed: float
    above_best: Estimate | None = None

    @property
    def sampler(self) -> str:
        return REAL if self.cell is None else self.cell.sampler_name

    @property
    def name(self) -> str:
        return REAL if self.cell is None else self.cell.name

    def values(self) -> Iterator[tuple[str, Estimate]]:
        """(name, estimate) of all that can be said."""
        yield from self.quality.values()
        if self.above_best is not None:
            yield "fid_above_best", self.above_best

    def shown(self, measure: str) -> Estimate | None:
        """An estimate in the unit of tables (KID times 1000)."""
        found = dict(self.values()).get(measure)
        if found is None or measure != "kid":
            return found
        return Estimate(*(1000 * v for v in (found.value, found.low, found.high)))


def lines_of(plan: Plan, drawn: dict[int, list[Drawn]], reference: Features, real: Features | None) -> list[Line]:
    """Every cell's measures; the chunks of a cell are in the order of their indices."""
    lines = []
    if real is not None:
        lines.append(Line(None, quality(real, reference), len(real.features), 0, math.nan))
    for number, cell in enumerate(plan.cells):
        parts = drawn[number]
        count, seconds = sum(p.count for p in parts), sum(p.seconds for p in parts)
        nfe = sum(p.nfe * p.count for p in parts) / count
        found = Features.joined([p.features for p in parts])
        lines.append(Line(cell, quality(found, reference), len(found.features), nfe, count / seconds))
    best = min((line for line in lines if line.cell is not None), key=lambda line: line.quality.fid.value)
    compared = [line.cell is not None and line is not best for line in lines]
    return [
        replace(line, above_best=difference(line.quality.fid, best.quality.fid)) if c else line
        for line, c in zip(lines, compared, strict=True)
    ]


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
        for name, e in line.values():
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


def terminal_table(plan: Plan, lines: Sequence[Line]) -> Table:
    """The table for a terminal: value and half the width of the interval."""
    table = Table(
        title=f"{plan.config.num_images} images each, features {plan.features.name}; ± half of the 95 % interval",
        title_justify="left",
    )
    for name in ("sampler", "steps", "NFE", *(" ".join(MEASURES[m][:2]).strip() for m in MEASURES), "images / s"):
        table.add_column(name, justify="left" if name == "sampler" else "right", no_wrap=True)
    for line in lines:
        cells = []
        for measure in MEASURES:
            e = line.shown(measure)
            text = "–" if e is None else show(e.value)
            cells.append(text if e is None or math.isnan(e.low) else f"{text} ±{(e.high - e.low) / 2:.2g}")
        table.add_row(
            line.sampler,
            str(line.cell.steps) if line.cell else "",
            f"{line.nfe:g}" if line.cell else "",
            *cells,
            show(line.speed),
        )
    return table
