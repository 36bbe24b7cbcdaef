"""Metrics anew from the restored images: a metric is added later without restoring again."""

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch

from common.errors import UserError
from evaluation.engine import evaluate_metrics, measured
from evaluation.identity import same_images
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Plan
from evaluation.rows import Row, gather, part_path, read_rows, write_rows


def recompute(plan: Plan, folder: Path) -> list[Row]:
    """Replace the metric columns of rows.csv by those of the plan and return all rows. Rows of other cells keep what
    they have of these columns.

    Raises UserError where there are no rows, where they have another fingerprint than the plan's, or where an image is
    missing.
    """
    path = folder / "rows.csv"
    if not path.exists() and not part_path(folder, 0).exists():
        raise UserError(f"--metrics_only: there is no rows.csv in '{folder}': run once without it")
    first = path if path.exists() else part_path(folder, 0)
    columns = _columns(first)
    rows = gather(folder, columns)
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        expected = plan.fingerprints.get((row.task, row.method))
        if expected is not None and row.fingerprint != expected:
            raise UserError(
                f"--metrics_only: '{folder}' holds results of {row.task} x {row.method} with other settings: give their"
                " configuration"
            )
        if expected is not None:
            groups[row.task, row.method, row.image].append(row)
    same_images(plan, folder, [row for group in groups.values() for row in group])
    number = {name: n for n, name in enumerate(plan.names)}
    new: dict[tuple, Row] = {}
    for (task, method, image), group in groups.items():
        if image not in number:
            continue
        truth, measurement = measured(plan, task, [number[image]])
        files = (restored_path(folder, task, method, image, row.sample) for row in group)
        shape = plan.images.shape(number[image])
        pixels = torch.stack([read_png(file, shape) for file in files])[None]
        values = evaluate_metrics(plan, pixels.to(plan.device), truth, measurement)
        for k, row in enumerate(group):
            new[row.key] = replace(row, values={name: float(v[0, k]) for name, v in values.items()})
    result = [
        new.get(row.key) or replace(row, values={n: row.values.get(n, math.nan) for n in plan.metrics.row_columns})
        for row in rows
    ]
    write_rows(path, result, plan.metrics.row_columns)
    return result


def _columns(path: Path) -> list[str]:
    rows = read_rows(path)
    return list(rows[0].values) if rows else []
