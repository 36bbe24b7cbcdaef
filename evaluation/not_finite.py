"""not_finite.csv: images whose restoration by a method is NaN or infinity. They have no row; the others go on."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import UserError
from evaluation.plan import Key, Plan
from evaluation.rows import GONE, RowKey

FILE = "not_finite.csv"

#: (task, method, image, fingerprint)
NotFinite = tuple[str, str, str, str]


def note_not_finite(folder: Path, found: Iterable[NotFinite]) -> None:
    """Append, each by one call of the system, so that several processes share the file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(found)
    if not text.getvalue():
        return
    try:
        file = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except FileNotFoundError as error:
        raise UserError(f"'{folder}' was removed while it was being written to: {GONE}") from error
    try:
        os.write(file, text.getvalue().encode())
    finally:
        os.close(file)


def read_not_finite(folders: Sequence[Path]) -> list[NotFinite]:
    """Of these folders, each once; a line that a kill tore or a disk damaged is left out."""
    found: dict[NotFinite, None] = {}
    for folder in folders:
        if (folder / FILE).is_file():
            with open(folder / FILE, newline="", encoding="utf-8", errors="replace") as file:
                found |= {(a, b, c, d): None for line in csv.reader(file) if len(line) == 4 for a, b, c, d in [line]}
    return list(found)


def without_rows(plan: Plan, folders: Sequence[Path]) -> frozenset[RowKey]:
    """The samples of the plan that are not to be waited for."""
    return frozenset(
        (task, method, image, k)
        for task, method, image, fingerprint in read_not_finite(folders)
        if plan.fingerprints.get((task, method)) == fingerprint
        for k in range(plan.methods[method].num_samples)
    )


def sentences(plan: Plan, folders: Sequence[Path]) -> list[str]:
    """How many of each cell, and the first; of the images that the plan asks for."""
    found: dict[Key, set[str]] = defaultdict(set)
    for task, method, image, _ in without_rows(plan, folders):
        found[task, method].add(image)
    said = []
    for task, method in plan.cells:
        names = [plan.names[row] for row in plan.rows(task, method)]
        images = [name for name in names if name in found[task, method]]
        if images:
            said.append(
                f"{task} x {method}: {len(images)} of {len(names)} restorations are not finite (NaN or infinity), first"
                f" that of image '{images[0]}'; its numbers are of the others: lower the step or guidance scale of the"
                " method, or look at the prior"
            )
    return said
