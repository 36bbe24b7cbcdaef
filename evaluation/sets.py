"""sets.csv: what several samples of one measurement tell, one row per (task, method, image), computed from the restored
images on the disk.
"""

import csv
import io
import math
from pathlib import Path

import torch

from common.files import write_atomically
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Plan
from evaluation.rows import Row, cell_text
from metrics.diversity import NAMES, set_metrics

HEADER = ("task", "method", "image", "num_samples", *NAMES, "fingerprint")

#: {(task, method, image): {name: value}}
Sets = dict[tuple[str, str, str], dict[str, float]]


def update_sets(plan: Plan, folder: Path, rows: list[Row], *, anew: bool = False) -> Sets:
    """Compute what sets.csv lacks (anew: all of it), write it as a whole, and return it; images whose samples are not
    all there are left out.
    """
    path = folder / "sets.csv"
    known = {} if anew else _read(path)
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
            samples = torch.stack([read_png(restored_path(folder, task, method, image, k)) for k in range(wanted)])
            truth = plan.images.get([row_of[image]]).image.cpu()
            values = set_metrics(samples[None], truth)
            cells = {name: cell_text(float(getattr(values, name))) for name in NAMES}
        lines.append([*key, wanted, *(cells[name] for name in NAMES), fingerprint])
        found[key] = {name: float(cells[name]) if cells[name] else math.nan for name in NAMES}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *lines])
    write_atomically(path, text.getvalue())
    return found


def _read(path: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """What is there already; a file of other columns counts as absent, because it is only a cache of the images."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != HEADER:
                return {}
            return {(r["task"], r["method"], r["image"]): r for r in reader}
    except FileNotFoundError:
        return {}
