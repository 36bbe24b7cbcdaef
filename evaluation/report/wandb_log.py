"""The table of a restoration in Weights & Biases, where the configuration asks for it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.image_files import restored_path, write_png
from evaluation.plan import Plan
from evaluation.report.sheets import pixels_of
from evaluation.report.standings import main_column
from evaluation.report.tables import Results
from evaluation.report.wandb_run import Chart, log_run

#: Rows of the table with pictures, of all tasks and methods together.
PICTURES = 1000


def log_to_wandb(plan: Plan, results: Results, sheets: Mapping[str, Path], folder: Path) -> None:
    """A table with a row for each task and method, one with a row for each of the first images, task and method, with
    their pictures and numbers, the sheets as pictures, charts; in the summary the means of a single cell, else
    <task>/<method>/<metric>.
    """
    if plan.config.wandb.mode == "disabled":
        return
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
    logged = {
        "restoration": (columns, rows),
        "per_image": _per_image(plan, results, folder),
        **{f"images/{name}": path for name, path in sheets.items()},
        **_charts(results),
    }
    priors = {name: prior.path for name, prior in plan.config.priors.items()}
    log_run(plan.config.wandb, folder, config=plan.config.plain(), logged=logged, summary=summary, priors=priors)


def _charts(results: Results) -> dict[str, Chart]:
    """The first metric whose best end is the highest: bars of the methods of each task, and over network calls."""
    column = main_column(results)
    if column is None:
        return {}
    label = f"{column.label}, {column.unit}" if column.unit else column.label
    lines = [
        [task, results.shown(method), float(results.nfe[task, method]), metrics[column.name].mean * column.factor]
        for (task, method), metrics in results.table.items()
        if column.name in metrics and math.isfinite(metrics[column.name].mean)
    ]
    columns = ["task", "method", "nfe", column.name]
    found = {}
    for task in dict.fromkeys(line[0] for line in lines):
        of_task = [line for line in lines if line[0] == task]
        found[f"plots/{task}"] = Chart("bar", f"{label}: {task}", ("method", column.name), columns, of_task)
    if len({line[2] for line in lines}) > 1:
        title = f"{label}, over network calls"
        found["quality_over_calls"] = Chart("scatter", title, ("nfe", column.name), columns, lines)
    return found


def _per_image(plan: Plan, results: Results, folder: Path) -> tuple[list[str], list[list[Any]]]:
    """A row for each task, image and method, to be filtered and sorted in the dashboard: truth, measurement and
    restoration (sample 0) as pictures, the numbers of the image.
    """
    names = [c for c in results.columns if c.name in plan.metrics.row_columns]
    columns = ["task", "image", "method", "truth", "measurement", "restored", *(c.name for c in names)]
    row_of = {name: number for number, name in enumerate(plan.names)}
    rows: list[list[Any]] = []
    for task in plan.tasks:
        done = {m: v for (t, m), v in results.per_image.items() if t == task}
        images = list(dict.fromkeys(i for v in done.values() for numbers in v.values() for i in numbers))
        for image in images[: max(1, PICTURES // max(1, len(results.table)))]:
            given = [_kept(folder, task, image, k, p) for k, p in enumerate(pixels_of(plan, task, row_of[image]))]
            for method, numbers in done.items():
                restored = restored_path(folder, task, method, image, 0)
                if restored.is_file():
                    values = [numbers[c.name].get(image) for c in names]
                    rows.append([task, image, results.shown(method), *given, restored, *values])
    return columns, rows


def _kept(folder: Path, task: str, image: str, number: int, pixels: np.ndarray) -> Path:
    """Truth (0) or measurement (1) as a file: W&B takes pictures from there."""
    path = folder / "given" / task / f"{image}_{('truth', 'measurement')[number]}.png"
    if not path.is_file():
        write_png(path, torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    return path
