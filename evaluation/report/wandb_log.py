"""The table of a restoration in Weights & Biases, where the configuration asks for it."""

from collections.abc import Mapping
from pathlib import Path

from evaluation.plan import Plan
from evaluation.report.tables import Results
from evaluation.report.wandb_run import log_run


def log_to_wandb(plan: Plan, results: Results, sheets: Mapping[str, Path], folder: Path) -> None:
    """A table with a row for each task and method, the sheets as pictures; in the summary the means of a single cell,
    else <task>/<method>/<metric>.
    """
    columns = [
        "task",
        "method",
        "seconds",
        "nfe",
        *[f"{c.name}{end}" for c in results.columns for end in ("", "_low", "_high")],
    ]
    rows, summary = [], {}
    for (task, method), metrics in results.table.items():
        found = [metrics.get(c.name) for c in results.columns]
        values = [v for i in found for v in ((i.mean, i.low, i.high) if i is not None else (None, None, None))]
        rows.append([task, method, results.seconds[task, method], results.nfe[task, method], *values])
        prefix = "" if len(results.table) == 1 else f"{task}/{method}/"
        summary.update({f"{prefix}{name}": interval.mean for name, interval in metrics.items()})
    logged = {"restoration": (columns, rows), **{f"images/{name}": path for name, path in sheets.items()}}
    log_run(plan.config.wandb, folder, config=plan.config.plain(), logged=logged, summary=summary)
