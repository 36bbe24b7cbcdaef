"""Which images a folder of results is about: masks and noise belong to an image's index, so the same name must stay the same image."""

import csv
import hashlib
import io
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from evaluation.plan import Plan

FILE = "images.csv"
COLUMNS = ("image", "index", "sha256")


def same_images(plan: Plan, folder: Path) -> None:
    """Write images.csv (name, index, hash of shape and pixels) for the images of the plan, beside those that it has already.

    Raises UserError where a name stands for another index or other pixels than before: files were added, removed or replaced, so that the rows that are
    there belong to other measurements.
    """
    path = folder / FILE
    known = _read(path)
    now = {plan.names[row]: _identity(plan, row) for row in range(max(len(built.rows) for built in plan.tasks.values()))}
    changed = [name for name, identity in now.items() if known.get(name, identity) != identity]
    if changed:
        name = changed[0]
        what = "another place in the data set" if known[name][0] != now[name][0] else "other pixels"
        raise UserError(
            f"'{folder}' holds results of the image '{name}', which has {what} now ({len(changed)} images differ: files were added, removed or replaced): "
            "give another --output, or remove the folder"
        )
    if now.keys() - known.keys():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([COLUMNS, *((n, *i) for n, i in {**known, **now}.items())])
        write_atomically(path, text.getvalue())


def _identity(plan: Plan, row: int) -> tuple[str, str]:
    batch = plan.images.get([row])
    pixels = batch.image[0].cpu().contiguous()
    return str(int(batch.index[0])), hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()[:16]


def _read(path: Path) -> dict[str, tuple[str, str]]:
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        return {row["image"]: (row["index"], row["sha256"]) for row in csv.DictReader(file)}
