"""bias.csv: the value of a metric of sets by the number of images, where it depends on it and was measured."""

import contextlib
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.files import write_atomically
from evaluation.rows import cell_text

FILE = "bias.csv"
HEADER = ("task", "method", "metric", "features_fingerprint", "of", "images", "value")
#: (task, method, metric, fingerprint of the features, images of the whole) -> (images, value)
Curves = dict[tuple[str, str, str, str, int], list[tuple[int, float]]]


def read_bias(folder: Path) -> Curves:
    """What is there; a damaged line counts as absent."""
    found: Curves = {}
    with (
        contextlib.suppress(FileNotFoundError),
        open(folder / FILE, newline="", encoding="utf-8", errors="replace") as file,
    ):
        for line in csv.reader(file):
            with contextlib.suppress(ValueError):
                task, method, metric, features, of, images, value = line
                found.setdefault((task, method, metric, features, int(of)), []).append((int(images), float(value)))
    return found


def write_bias(folder: Path, curves: Mapping[tuple[str, str, str, str, int], Sequence[tuple[int, float]]]) -> None:
    """Replace the file; nothing where there are none."""
    if not curves:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for key, points in curves.items():
        writer.writerows([*key, images, cell_text(value)] for images, value in points)
    write_atomically(folder / FILE, text.getvalue())
