"""Which images a folder of results is about: masks and noise belong to an image's index, so the same name must stay the
same image.
"""

import csv
import hashlib
import io
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from evaluation.plan import Plan
from evaluation.rows import Row

FILE = "images.csv"
COLUMNS = ("image", "index", "sha256")


def same_images(plan: Plan, folder: Path, rows: list[Row]) -> None:
    """Write images.csv (name, index, hash of shape and pixels) for the images of the plan and of `rows`, before
    anything is restored.

    Raises UserError where the name of an image that has rows stands for another index or other pixels than before, or
    has no entry: files were added, removed or replaced, so that the rows belong to other measurements.
    """
    path = folder / FILE
    restored = {row.image for row in rows}
    known = {name: identity for name, identity in read_identities(path).items() if name in restored}
    now = {
        plan.names[row]: _identity(plan, row) for row in range(max(len(built.rows) for built in plan.tasks.values()))
    }
    changed = [name for name, identity in now.items() if name in restored and known.get(name) != identity]
    if changed:
        name = changed[0]
        before = known.get(name)
        what = (
            f"no entry in {FILE}"
            if before is None
            else "another place in the data set"
            if before[0] != now[name][0]
            else "other pixels"
        )
        raise UserError(
            f"'{folder}' holds results of the image '{name}', which has {what} now ({len(changed)} images differ: files"
            " were added, removed or replaced): give another --output, or remove the folder"
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *((n, *i) for n, i in {**known, **now}.items())])
    write_atomically(path, text.getvalue())


def _identity(plan: Plan, row: int) -> tuple[str, str]:
    batch = plan.images.get([row])
    pixels = batch.image[0].cpu().contiguous()
    return (
        str(int(batch.index[0])),
        hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()[:16],
    )


def read_identities(path: Path) -> dict[str, tuple[str, str]]:
    """(index, hash) by name of what :func:`same_images` wrote; {} where it wrote nothing; without damaged lines."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        lines = [line for line in csv.reader(file) if len(line) == len(COLUMNS) and tuple(line) != COLUMNS]
    return {image: (index, digest) for image, index, digest in lines}
