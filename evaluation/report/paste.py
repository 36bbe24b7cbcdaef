"""table.md and table.tex: the table to paste into a page or a paper; ranks.csv: who is ahead, and how surely."""

import csv
import io
import math
from pathlib import Path

from common.files import write_atomically
from evaluation.plan import Plan
from evaluation.report.pages import show
from evaluation.report.standings import Overall, across_tasks, is_ranked, main_column, standings, ties
from evaluation.report.statistics import Interval
from evaluation.report.tables import FEW, Results, scaled
from evaluation.rows import cell_text
from metrics.base import Column

#: Behind a number that a paired interval cannot tell from the best.
TIE = {"md": " ≈", "tex": r"$^{\approx}$"}
MARKED = {"md": FEW, "tex": r"$^{\dagger}$"}
RANKS = ("task", "method", "metric", "n", "rank", "rank_low", "rank_high", "behind", "behind_low", "behind_high")
_ESCAPES = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_ESCAPES |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_ESCAPES |= {FEW: r"$\dagger$", "−": "$-$", "σ": r"$\sigma$", "∞": r"$\infty$", "→": r"$\to$", "≈": r"$\approx$"}


def write_pasted(plan: Plan, results: Results, folder: Path) -> None:
    """Write all: means with 95 % intervals, the best of a task bold, what cannot be told from it marked, ranks."""
    write_atomically(folder / "table.md", markdown(plan, results))
    write_atomically(folder / "table.tex", latex(plan, results))
    write_atomically(folder / "ranks.csv", ranks(plan, results))


def ranks(plan: Plan, results: Results) -> str:
    """Of every task and of all together: rank and distance to the best by the main metric, with their intervals; empty
    cells for what does not exist.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RANKS)
    if (column := main_column(results)) is None:
        return text.getvalue()

    def row(task: str, method: str, rank: Interval, behind: Interval | None) -> None:
        ends = [rank, *([behind] if behind else [])]
        numbers = [cell_text(v) for i in ends for v in (i.mean, i.low, i.high)]
        writer.writerow([task, method, column.name, rank.n, *numbers, *[""] * (6 - len(numbers))])

    for task in dict.fromkeys(task for task, _ in results.table):
        for s in standings(results, task, column, seed=plan.config.seed):
            row(task, s.method, s.rank, s.behind)
    for overall in across_tasks(results, column, seed=plan.config.seed)[0]:
        row("", overall.method, overall.rank, None)
    return text.getvalue()


def markdown(plan: Plan, results: Results) -> str:
    """A table of GitHub's Markdown for every task."""
    heads = ["method", *_heads(plan, results)]
    blocks = []
    for task, lines in _lines(plan, results, "md"):
        rows = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
        rows += ["| " + " | ".join(_pipe(cell) for cell in line) + " |" for line in lines]
        blocks.append("\n".join([f"**{_pipe(task)}**", "", *rows]))
    overall, others, head = _overall(plan, results)
    if overall:
        rows = [f"| method | {head} | first in |", "| --- | ---: | ---: |"]
        rows += [f"| {_pipe(o.method)} | {_rank(o.rank, 'md')} | {o.firsts} |" for o in overall]
        blocks.append("\n".join([f"**all {_tasks(results)} tasks**", "", *rows]))
    left = f" Not in every task, and so without a rank over all: {', '.join(others)}." if overall and others else ""
    return "\n\n".join([*blocks, _caption(plan, results, "≈") + left, ""])


def latex(plan: Plan, results: Results) -> str:
    """A tabular of the package booktabs with all tasks."""
    heads = ["task", "method", *_heads(plan, results)]
    rows = [" & ".join(escaped(head) for head in heads) + r" \\", r"\midrule"]
    for number, (task, lines) in enumerate(_lines(plan, results, "tex")):
        rows += [r"\midrule"] if number else []
        for k, line in enumerate(lines):
            rows.append(" & ".join([escaped(task) if k == 0 else "", *line]) + r" \\")
    overall, _, head = _overall(plan, results)
    place = heads.index(head) - 2 if overall else 0
    for k, o in enumerate(overall):
        rows += [r"\midrule"] if k == 0 else []
        cells = [""] * (len(heads) - 2)
        cells[place] = _rank(o.rank, "tex")
        rows.append(" & ".join(["all" if k == 0 else "", escaped(o.method), *cells]) + r" \\")
    return "\n".join(
        [
            "% " + _caption(plan, results, "approx"),
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


def _heads(plan: Plan, results: Results) -> list[str]:
    ranked = [_rank_head(column)] if (column := _ranked(plan, results)) else []
    return [*(_head(c) for c in results.columns), *ranked, "s / sample", "NFE"]


def _rank_head(column: Column) -> str:
    return f"rank by {column.label}"


def _ranked(plan: Plan, results: Results) -> Column | None:
    column = main_column(results)
    return column if column and is_ranked(results, column, seed=plan.config.seed) else None


def _overall(plan: Plan, results: Results) -> tuple[list[Overall], list[str], str]:
    """The ranks over all tasks, the methods without one, and their head."""
    column = _ranked(plan, results)
    return (*across_tasks(results, column, seed=plan.config.seed), _rank_head(column)) if column else ([], [], "")


def _tasks(results: Results) -> int:
    return len({task for task, _ in results.table})


def _rank(v: Interval | None, form: str) -> str:
    if v is None:
        return "–" if form == "md" else "--"
    return show(v.mean) + _ends(v, form)


def _ends(v: Interval, form: str) -> str:
    if math.isnan(v.low):
        return ""
    ends = f"[{show(v.low)}, {show(v.high)}]"
    return f" {ends}" if form == "md" else rf" {{\scriptsize {ends}}}"


def _lines(plan: Plan, results: Results, form: str) -> list[tuple[str, list[list[str]]]]:
    found = []
    for task in dict.fromkeys(task for task, _ in results.table):
        best = {c.name: results.best(task, c) for c in results.columns}
        tied = {c.name: ties(results, task, c, seed=plan.config.seed) for c in results.columns}
        main = _ranked(plan, results)
        ranked = {s.method: s.rank for s in standings(results, task, main, seed=plan.config.seed)} if main else {}
        lines = []
        for (t, method), metrics in results.table.items():
            if t != task:
                continue
            name = results.shown(method)
            cells = [
                _number(
                    c,
                    metrics.get(c.name),
                    method in best[c.name],
                    (TIE[form] if method in tied[c.name] else "")
                    + (MARKED[form] if results.is_of_few((t, method), c) else ""),
                    form,
                )
                for c in results.columns
            ]
            cells += [_rank(ranked.get(method), form)] if main else []
            cost = [show(results.seconds[t, method]), f"{results.nfe[t, method]:g}"]
            lines.append([escaped(name) if form == "tex" else name, *cells, *cost])
        found.append((task, lines))
    return found


def _number(column: Column, v: Interval | None, best: bool, marks: str, form: str) -> str:
    if v is None or math.isnan(v.mean):
        return "–" if form == "md" else "--"
    v = scaled(column, v)
    text = show(v.mean)
    if best:
        text = f"**{text}**" if form == "md" else rf"\textbf{{{text}}}"
    return text + marks + _ends(v, form)


def _head(column: Column) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _caption(plan: Plan, results: Results, mark: str) -> str:
    missing = "".join(f" {sentence[0].upper()}{sentence[1:]}." for sentence in results.missing)
    counts = sorted({v.n for row in results.table.values() for v in row.values() if v.n})
    images = " to ".join(str(n) for n in dict.fromkeys([counts[0], counts[-1]])) if counts else "no"
    several = [(m, plan.methods[m].num_samples) for m in dict.fromkeys(m for _, m in results.table)]
    samples = ", ".join(f"{method} {count}" for method, count in several if count > 1)
    samples = f" (samples of each, averaged first: {samples})" if samples else ""
    return (
        f"Means over {images} images{samples}, seed {plan.config.seed}, with 95 % intervals ({results.intervals});"
        f" bold: the best mean of a task; {mark}: its paired difference to the best has an interval that includes 0."
        f"{missing}"
    )


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")
