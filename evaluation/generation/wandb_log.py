"""The table of a generation evaluation in Weights & Biases, where the configuration asks for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.generation.plan import Plan
from evaluation.generation.results import Line, best_of, main_metric
from evaluation.report.wandb_run import log_run


def log_to_wandb(plan: Plan, lines: Sequence[Line], sheets: Mapping[str, Path], folder: Path) -> None:
    """A table with all cells, quality/<metric> of the best cell in the summary, the sheets as pictures."""
    names = list(dict.fromkeys(name for line in lines for name in line.values()))
    columns = [
        "sampler",
        "steps",
        "nfe",
        "images",
        "images_per_second",
        *[f"{n}{end}" for n in names for end in ("", "_low", "_high")],
    ]
    rows = []
    for line in lines:
        found = line.values()
        values = [
            v
            for n in names
            for v in ((found[n].value, found[n].low, found[n].high) if n in found else (None, None, None))
        ]
        rows.append([line.sampler, line.cell.steps if line.cell else None, line.nfe, line.images, line.speed, *values])
    name = main_metric(plan)
    best = None if name is None else best_of(plan, lines, name)
    summary = {} if best is None else {f"quality/{n}": e.value for n, e in best.quality.numbers.items()}
    log_run(
        plan.config.wandb,
        folder,
        config=plan.config.plain(),
        logged={"generation": (columns, rows), **{f"images/{name}": path for name, path in sheets.items()}},
        summary=summary | ({} if best is None else {"quality/best": best.name}),
    )
