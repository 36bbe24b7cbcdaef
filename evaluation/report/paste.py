"""table.md and table.tex: the table to paste into a page or a paper."""

import math
from pathlib import Path

from common.files import write_atomically
from evaluation.plan import Plan
from evaluation.report.pages import show
from evaluation.report.standings import ties
from evaluation.report.statistics import Interval
from evaluation.report.tables import Results, scaled
from metrics.base import Column

#: Behind a number that a paired interval cannot tell from the best.
TIE = {"md": " ≈", "tex": r"$^{\approx}$"}
_ESCAPES = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_ESCAPES |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_ESCAPES |= {"−": "$-$", "σ": r"$\sigma$", "∞": r"$\infty$", "→": r"$\to$", "≈": r"$\approx$"}


def write_pasted(plan: Plan, results: Results, folder: Path) -> None:
    """Write both: means with 95 % intervals, the best of a task bold, what cannot be told from it marked."""
    write_atomically(folder / "table.md", markdown(plan, results))
    write_atomically(folder / "table.tex", latex(plan, results))


def markdown(plan: Plan, results: Results) -> str:
    """A table of GitHub's Markdown for every task."""
    heads = ["method", *(_head(c) for c in results.columns), "s / sample", "NFE"]
    blocks = []
    for task, lines in _lines(plan, results, "md"):
        rows = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
        rows += ["| " + " | ".join(_pipe(cell) for cell in line) + " |" for line in lines]
        blocks.append("\n".join([f"**{_pipe(task)}**", "", *rows]))
    return "\n\n".join([*blocks, _caption(results, "≈"), ""])


def latex(plan: Plan, results: Results) -> str:
    """A tabular of the package booktabs with all tasks."""
    heads = ["task", "method", *(_head(c) for c in results.columns), "s / sample", "NFE"]
    rows = [" & ".join(escaped(head) for head in heads) + r" \\", r"\midrule"]
    for number, (task, lines) in enumerate(_lines(plan, results, "tex")):
        rows += [r"\midrule"] if number else []
        for k, line in enumerate(lines):
            rows.append(" & ".join([escaped(task) if k == 0 else "", *line]) + r" \\")
    return "\n".join(
        [
            "% " + _caption(results, "approx"),
            r"\begin{tabular}{ll" + "r" * (len(heads) - 2) + "}",
            r"\toprule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def _lines(plan: Plan, results: Results, form: str) -> list[tuple[str, list[list[str]]]]:
    found = []
    for task in dict.fromkeys(task for task, _ in results.table):
        best = {c.name: results.best(task, c) for c in results.columns}
        tied = {c.name: ties(results, task, c, seed=plan.config.seed) for c in results.columns}
        lines = []
        for (t, method), metrics in results.table.items():
            if t != task:
                continue
            name = results.shown(method)
            cells = [
                _number(c, metrics.get(c.name), method in best[c.name], method in tied[c.name], form)
                for c in results.columns
            ]
            cost = [show(results.seconds[t, method]), f"{results.nfe[t, method]:g}"]
            lines.append([escaped(name) if form == "tex" else name, *cells, *cost])
        found.append((task, lines))
    return found


def _number(column: Column, v: Interval | None, best: bool, tied: bool, form: str) -> str:
    if v is None or math.isnan(v.mean):
        return "–" if form == "md" else "--"
    v = scaled(column, v)
    text = show(v.mean)
    if best:
        text = f"**{text}**" if form == "md" else rf"\textbf{{{text}}}"
    if tied:
        text += TIE[form]
    if not math.isnan(v.low):
        ends = f"[{show(v.low)}, {show(v.high)}]"
        text += f" {ends}" if form == "md" else rf" {{\scriptsize {ends}}}"
    return text


def _head(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _caption(results: Results, mark: str) -> str:
    missing = "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in results.missing)
    counts = sorted({v.n for row in results.table.values() for v in row.values() if v.n})
    images = " to ".join(str(n) for n in dict.fromkeys([counts[0], counts[-1]])) if counts else "no"
    return (
        f"Means over {images} images with 95 % intervals ({results.intervals}); bold: the best mean of a task; {mark}:"
        f" its paired difference to the best has an interval that includes 0.{missing}"
    )


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")
