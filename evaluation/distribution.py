"""distribution.csv: how far the restored images of a cell are, as a set, from the true ones; one row per (task, method,
number of images, feature network).
"""

import csv
import hashlib
import io
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from common.files import write_atomically
from datamodules.store import ImageSet
from evaluation.generation.measures import too_few
from evaluation.generation.reference import reference_features, shuffled
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Key, Plan
from evaluation.progress import INTERVAL, say
from evaluation.report.statistics import Interval
from evaluation.rows import Row, cell_text
from metrics.fid import fid_of_pairs
from metrics.jackknife import Estimate
from metrics.kid import kid_of_pairs

KEY = ("task", "method", "n", "features", "features_fingerprint")
MEASURES: dict[str, Callable[[Tensor, Tensor], Estimate]] = {"fid": fid_of_pairs, "kid": kid_of_pairs}
VALUES = tuple(f"{name}{end}" for name in MEASURES for end in ("", "_ci_low", "_ci_high"))
HEADER = (*KEY, *VALUES, "files", "fingerprint")
LEAST = 4  # images that a jackknife needs
BATCH = 250

#: {(task, method): {measure: interval}}
Distances = dict[Key, dict[str, Interval]]


def few_images(plan: Plan) -> list[str]:
    """A sentence for every number of images that is small for the feature network; none where FID and KID are not asked
    for.
    """
    if plan.features is None:
        return []
    counts = sorted({len(task.rows) for task in plan.tasks.values()})
    return [text for n in counts if (text := too_few(n, plan.features.dimension))]


def update_distances(plan: Plan, folder: Path, rows: Sequence[Row]) -> Distances:
    """FID and KID of the restored images of `rows` against the true ones, of sample 0 alone: what distribution.csv
    lacks is computed and kept there.

    A row of the file holds for the same number of images, fingerprint, feature network and files (names, sizes, times
    of writing). NaN for fewer than 4 images. {} where the plan has no feature network.
    """
    if plan.features is None:
        return {}
    path = folder / "distribution.csv"
    known = _read(path)
    number = {name: row for row, name in enumerate(plan.names)}
    images: dict[Key, list[int]] = {key: [] for key in plan.cells}
    for row in rows:
        if row.sample == 0:
            images[row.task, row.method].append(number[row.image])
    truths: dict[tuple[int, ...], Tensor] = {}
    found: Distances = {}
    last = time.monotonic()
    for (task, method), restored in images.items():
        restored = sorted(restored)
        n = len(restored)
        if not n:
            continue
        if n < LEAST:
            found[task, method] = {name: Interval(math.nan, math.nan, math.nan, n) for name in MEASURES}
            continue
        files = [restored_path(folder, task, method, plan.names[row], 0) for row in restored]
        key = (task, method, str(n), plan.features.name, plan.features.fingerprint)
        state, fingerprint = _state_of(files), plan.fingerprints[task, method]
        cells = known.get(key)
        if cells is None or (cells["files"], cells["fingerprint"]) != (state, fingerprint):
            which = tuple(restored)
            if which not in truths:
                truths[which] = _true_features(plan, restored)
            features = _features(plan, n, lambda part, files=files: _read_all(files[part]))
            estimates = [measure(features, truths[which]) for measure in MEASURES.values()]
            texts = [cell_text(v) for e in estimates for v in (e.value, e.low, e.high)]
            cells = dict(zip(HEADER, [*key, *texts, state, fingerprint], strict=True))
            known[key] = cells
            _write(path, known)
            if time.monotonic() - last >= INTERVAL:
                last = time.monotonic()
                say(f"FID and KID of {task} x {method}, {n} images, features {plan.features.name}")
        ends = ("", "_ci_low", "_ci_high")
        found[task, method] = {name: Interval(*(float(cells[f"{name}{end}"]) for end in ends), n) for name in MEASURES}
    if any(v["fid"].n < LEAST for v in found.values()):
        say(f"warning: FID and KID need at least {LEAST} images: they are missing where there are fewer")
    return found


def _true_features(plan: Plan, rows: list[int]) -> Tensor:
    """Features [N, d] of the images in these rows; from the cache of evaluation/generation/reference.py, unless they
    have several shapes.
    """
    images = ImageSet(plan.images.store, plan.images.positions[torch.tensor(rows)])
    if not images.one_shape:
        return _features(plan, len(rows), lambda part: [plan.images.get([row]).image[0].cpu() for row in rows[part]])
    # it gives them in that order
    return reference_features(images, plan.features).features[shuffled(len(rows)).argsort()]


def _features(plan: Plan, count: int, read: Callable[[slice], list[Tensor]]) -> Tensor:
    """Features [count, d] of the images that `read` gives for each run of neighbours; images of several shapes are
    measured one after the other.
    """
    parts = []
    for start in range(0, count, BATCH):
        images = read(slice(start, start + BATCH))
        parts += [
            plan.features.of(torch.stack(list(same))).features
            for _, same in groupby(images, key=lambda image: image.shape)
        ]
    return torch.cat(parts)


def _read_all(files: list[Path]) -> list[Tensor]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(read_png, files))


def _state_of(files: list[Path]) -> str:
    """Names, sizes and times of writing: whoever replaced an image gets new numbers. A file that is missing is noticed
    when it is read.
    """
    digest = hashlib.sha256()
    for path in files:
        found = path.stat() if path.is_file() else None
        digest.update(f"{path.name}\0{found and (found.st_size, found.st_mtime_ns)}\0".encode())
    return digest.hexdigest()[:16]


def _write(path: Path, lines: dict[tuple[str, ...], dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines.values())
    write_atomically(path, text.getvalue())


def _read(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """What is there already; a file of other columns, or a damaged one, counts as absent, because it is only a cache of
    the images.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != HEADER:
                return {}
            lines = [line for line in reader if None not in line.values() and None not in line]
            for line in lines:
                [float(line[name]) for name in VALUES]
            return {tuple(line[name] for name in KEY): line for line in lines}
    except (FileNotFoundError, ValueError, csv.Error):
        return {}
