"""sets.csv: what several samples of one measurement tell, one row per (task, method, image), computed from the restored
images on the disk.
"""

import csv
import io
import math
from pathlib import Path

import torch
from torch import Tensor

from common.files import write_atomically
from evaluation.engine import measured
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Plan
from evaluation.rows import Row, cell_text

#: {(task, method, image): {name: value}}
Sets = dict[tuple[str, str, str], dict[str, float]]


def update_sets(plan: Plan, folder: Path, rows: list[Row], *, anew: bool = False) -> Sets:
    """Compute what sets.csv lacks (anew: all of it), write it as a whole, and return it; images whose samples are not
    all there are left out.
    """
    path = folder / "sets.csv"
    columns = plan.metrics.sample_columns
    header = ("task", "method", "image", "num_samples", *columns, "fingerprint")
    known = {} if anew else _read(path, header)
    counts: dict[tuple[str, str, str], int] = {}
    for row in rows:
        counts[row.task, row.method, row.image] = counts.get((row.task, row.method, row.image), 0) + 1
    row_of = {name: number for number, name in enumerate(plan.names)}
    lines, found = [], {}
    for key, n in counts.items():
        task, method, image = key
        wanted = plan.methods[method].num_samples
        if wanted < 2 or n < wanted:
            continue
        fingerprint = plan.fingerprints[task, method]
        cells = known.get(key)
        if cells is None or cells["fingerprint"] != fingerprint or cells["num_samples"] != str(wanted):
            files = (restored_path(folder, task, method, image, k) for k in range(wanted))
            shape = plan.images.shape(row_of[image])
            samples = torch.stack([read_png(file, shape) for file in files])
            cells = {name: cell_text(value) for name, value in _values(plan, task, row_of[image], samples).items()}
        lines.append([*key, wanted, *(cells.get(name, "") for name in columns), fingerprint])
        found[key] = {name: float(cells[name]) if cells.get(name) else math.nan for name in columns}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    write_atomically(path, text.getvalue())
    return found


@torch.no_grad()
def _values(plan: Plan, task: str, row: int, samples: Tensor) -> dict[str, float]:
    """The numbers of one image's samples, uint8 [N, C, H, W], by column; without those that are missing."""
    metrics = {
        n: m for n, m in plan.metrics.samples.items() if (n, tuple(samples.shape[1:])) not in plan.metrics.not_at
    }
    truth, measurement = plan.images.get([row]).image.to(plan.device), None
    if any(metric.needs_measurement for metric in metrics.values()):
        truth, measurement = measured(plan, task, [row])
    found = {}
    for name, metric in metrics.items():
        values = metric(samples[None].to(plan.device), truth, measurement).double().reshape(-1)
        found |= zip(metric.part_names(name), values.tolist(), strict=True)
    return found


def _read(path: Path, header: tuple[str, ...]) -> dict[tuple[str, str, str], dict[str, str]]:
    """What is there already; a file of other columns, or one that is damaged, counts as absent, because it is only a
    cache of the images.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != header:
                return {}
            lines = {(r["task"], r["method"], r["image"]): r for r in reader}
            [float(r[name]) for r in lines.values() for name in header[4:-1] if r[name]]
            return lines
    except (FileNotFoundError, ValueError, csv.Error):
        return {}
