"""distribution.csv: how far the restored images of a cell are, as a set, from the true ones; one row per (task, method,
number of images, feature network).
"""

import csv
import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from common.files import write_atomically
from datamodules.store import ImageSet
from evaluation.bias import read_bias, write_bias
from evaluation.generation.measures import too_few
from evaluation.generation.reference import reference_features, shuffled
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Key, Plan
from evaluation.progress import INTERVAL, say
from evaluation.report.statistics import Interval
from evaluation.rows import Row, cell_text
from metrics.base import DistributionMetric, Missing, Shape
from metrics.features import FeatureNetwork, FeatureRows, Features
from metrics.jackknife import Estimate

KEY = ("task", "method", "n", "features", "features_fingerprint")
ENDS = ("", "_ci_low", "_ci_high")
BATCH = 250
SMALL = 1 << 14  # values of an image: 64x64 in colour
ABSENT = "-"  # a metric that this line was not asked for; an empty cell is one without a number

#: {(task, method): {metric: interval}}
Distances = dict[Key, dict[str, Interval]]
#: cells of a file by their KEY
Lines = dict[tuple[str, ...], dict[str, str]]


def few_images(plan: Plan) -> list[str]:
    """A sentence for every number of images that is small for a feature network; none where no sets are compared."""
    counts = sorted({len(plan.rows(*cell)) for cell in plan.cells})
    networks = [network for network, _ in plan.metrics.by_network()]
    return list(dict.fromkeys(text for net in networks for n in counts if (text := too_few(n, net.dimension))))


def update_distances(plan: Plan, folder: Path, rows: Sequence[Row]) -> Distances:
    """Every metric of sets, of the restored images of `rows` against the true ones, of sample 0 alone: what
    distribution.csv lacks is computed and kept there.

    A row of the file holds for the same number of images, fingerprint, feature network and files (names, sizes, times
    of writing). NaN where a metric needs more images. {} where the plan compares no sets.
    """
    number = {name: row for row, name in enumerate(plan.names)}
    images: dict[Key, list[int]] = {key: [] for key in plan.cells}
    for row in rows:
        if row.sample == 0:
            images[row.task, row.method].append(number[row.image])
    images = {key: sorted(restored) for key, restored in images.items() if restored}
    known = _read(folder / "distribution.csv") if plan.metrics.sets else {}
    found: Distances = {}
    for network, metrics in plan.metrics.by_network():
        for key, distances in _of_network(plan, folder, images, network, metrics, known).items():
            found.setdefault(key, {}).update(distances)
    counts = [len(restored) for restored in images.values()]
    for least, labels in _by_least(plan).items():
        if min(counts, default=least) < least:
            verb = "need" if len(labels) > 1 else "needs"
            say(
                f"warning: {' and '.join(labels)} {verb} at least {least} images:"
                f" {'they are' if len(labels) > 1 else 'it is'} missing where there are fewer"
            )
    return found


def _by_least(plan: Plan) -> dict[int, list[str]]:
    """Labels of the metrics by the number of images that they need."""
    found: dict[int, list[str]] = {}
    for metric in plan.metrics.sets.values():
        found.setdefault(metric.least, []).append(metric.label)
    return found


def _of_network(
    plan: Plan,
    folder: Path,
    images: Mapping[Key, list[int]],
    network: FeatureNetwork,
    metrics: Mapping[str, DistributionMetric],
    known: Lines,
) -> Distances:
    """The metrics that share a network, cell by cell; `known` and the file get what was computed."""
    truths: dict[tuple[int, ...], Features] = {}
    found: Distances = {}
    last = time.monotonic()
    for (task, method), restored in images.items():
        n = len(restored)
        if n < min(metric.least for metric in metrics.values()):
            found[task, method] = {name: Interval(math.nan, math.nan, math.nan, n) for name in metrics}
            continue
        files = [restored_path(folder, task, method, plan.names[row], 0) for row in restored]
        key = (task, method, str(n), network.name, network.fingerprint)
        state, fingerprint = _state_of(files), plan.fingerprints[task, method]
        cells = known.get(key)
        if cells is None or (cells["files"], cells["fingerprint"]) != (state, fingerprint):
            cells = dict(zip(KEY, key, strict=True)) | {"files": state, "fingerprint": fingerprint}
        lacking = {name: metric for name, metric in metrics.items() if f"{name}{ENDS[0]}" not in cells}
        if lacking:
            which = tuple(restored)
            if which not in truths:
                truths[which] = _true_features(plan, network, restored)
            shapes = [plan.images.shape(row) for row in restored]
            read = partial(_read_part, files, shapes)
            features = _features(network, n, read)
            rows = FeatureRows.of(restored, features)
            curves = read_bias(folder)
            for name, metric in lacking.items():
                cells |= _cells(name, metric, rows, truths[which])
                points = metric.by_images(features, truths[which], paired=True)
                curves |= {(task, method, name, network.fingerprint, n): points} if points else {}
            write_bias(folder, curves)
            known[key] = cells
            _write(folder / "distribution.csv", known, plan)
            if time.monotonic() - last >= INTERVAL:
                last = time.monotonic()
                labels = " and ".join(metric.label for metric in lacking.values())
                say(f"{labels} of {task} x {method}, {n} images, features {network.name}")
        found[task, method] = {name: _interval(name, metric, cells, n) for name, metric in metrics.items()}
    return found


def _interval(name: str, metric: DistributionMetric, cells: Mapping[str, str], n: int) -> Interval:
    """Value and ends from the cells of a file; an empty one is missing. Ends that an earlier version wrote keep to what
    the metric bounds them by.
    """
    value, low, high = (float(cells[f"{name}{end}"] or math.nan) for end in ENDS)
    estimate = metric.bounded(Estimate(value, low, high), n)
    return Interval(estimate.value, estimate.low, estimate.high, n)


def _cells(name: str, metric: DistributionMetric, rows: FeatureRows, truth: Features) -> dict[str, str]:
    """The three numbers of a metric; empty where they are missing."""
    try:
        estimate = metric.compute(rows, truth, paired=True)
    except Missing:
        return {f"{name}{end}": "" for end in ENDS}
    values = (estimate.value, estimate.low, estimate.high)
    return {f"{name}{end}": cell_text(v) for end, v in zip(ENDS, values, strict=True)}


def _true_features(plan: Plan, network: FeatureNetwork, rows: list[int]) -> Features:
    """Features of the images in these rows; from the cache of evaluation/generation/reference.py, unless they
    have several shapes.
    """
    images = ImageSet(plan.images.store, plan.images.positions[torch.tensor(rows)])
    if not images.one_shape:
        return _features(network, len(rows), lambda part: [plan.images.get([row]).image[0].cpu() for row in rows[part]])
    # it gives them in that order
    return reference_features(images, network).rows(shuffled(len(rows)).argsort())


def _features(network: FeatureNetwork, count: int, read: Callable[[slice], list[Tensor]]) -> Features:
    """Features of the images that `read` gives for each run of neighbours; images of several shapes are measured one
    after the other.
    """
    batches = (read(slice(start, start + BATCH)) for start in range(0, count, BATCH))
    return Features.collected(
        count,
        (
            network.of(torch.stack(list(same)))
            for images in batches
            for _, same in groupby(images, key=lambda image: image.shape)
        ),
    )


def _read_part(files: list[Path], shapes: list[Shape], part: slice) -> list[Tensor]:
    return read_all(files[part], shapes[part])


def read_all(files: list[Path], shapes: Sequence[Shape | None]) -> list[Tensor]:
    """The images of these shapes, several large ones at once; UserError as :func:`evaluation.image_files.read_png`."""
    # Of small ones (2,000 of 32x32: 0.65 in place of 0.33 s of CPU) threads cost more than they decode.
    if all(shape is not None and math.prod(shape) <= SMALL for shape in shapes):
        return list(map(read_png, files, shapes))
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(read_png, files, shapes))


def _state_of(files: list[Path]) -> str:
    """Names, sizes and times of writing: whoever replaced an image gets new numbers. A file that is missing is noticed
    when it is read.
    """
    digest = hashlib.sha256()
    for path in files:
        found = path.stat() if path.is_file() else None
        digest.update(f"{path.name}\0{found and (found.st_size, found.st_mtime_ns)}\0".encode())
    return digest.hexdigest()[:16]


def _write(path: Path, lines: Lines, plan: Plan) -> None:
    names = dict.fromkeys(
        name for cells in lines.values() for name in cells if name not in (*KEY, "files", "fingerprint")
    )
    asked = [f"{name}{end}" for name in plan.metrics.sets for end in ENDS]
    header = [*KEY, *dict.fromkeys([*asked, *names]), "files", "fingerprint"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval=ABSENT, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines.values())
    write_atomically(path, text.getvalue())


def _read(path: Path) -> Lines:
    """What is there already; a damaged line counts as absent, because the file is only a cache of the images."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or ()
            if tuple(header[: len(KEY)]) != KEY or tuple(header[-2:]) != ("files", "fingerprint"):
                return {}
            values = header[len(KEY) : -2]
            lines = {}
            for line in reader:
                if None in line or None in line.values():
                    continue
                [float(line[name]) for name in values if line[name] not in ("", ABSENT)]
                cells = {name: text for name, text in line.items() if text != ABSENT}
                lines[tuple(line[name] for name in KEY)] = cells
            return lines
    except (FileNotFoundError, ValueError, csv.Error):
        return {}
