"""What several shards of an evaluation wrote, in one folder."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from evaluation.image_files import restored_path
from evaluation.rows import Row, RowKey, gather, read_rows, write_rows
from evaluation.shard import folders_of


def done_elsewhere(folder: Path, metrics: Sequence[str]) -> list[Row]:
    """The rows of the joined folder and of every shard, those that are being written included; first of a key wins."""
    rows: dict[RowKey, Row] = {}
    for place in [folder, *folders_of(folder)]:
        for row in read_rows(place / "rows.csv", metrics):
            rows.setdefault(row.key, row)
    return list(rows.values())


def join(folder: Path, parts: Sequence[Path], metrics: Sequence[str]) -> list[Row]:
    """The rows of `folder` and of the folders `parts`, their images linked (copied between file systems) into `folder`:
    images first, so that a kill leaves no row without its image, and the same call again goes on. `parts` stay.

    Raises:
        UserError: a folder without rows, one row with two fingerprints or two results.
    """
    rows = {row.key: row for row in gather(folder, metrics)}
    for part in parts:
        if part.resolve() == folder.resolve():
            raise UserError(f"--merge: '{part}' is --output itself: name the folders that are to be joined into it")
        if not (part / "rows.csv").is_file():
            raise UserError(f"--merge: there is no rows.csv in '{part}': is it a folder that evaluate.py wrote?")
        for row in gather(part, metrics):
            known = rows.setdefault(row.key, row)
            if known.fingerprint != row.fingerprint:
                raise UserError(
                    f"--merge: '{part}' holds {row.task} x {row.method} of image '{row.image}' with the fingerprint"
                    f" {row.fingerprint}, the others have {known.fingerprint}: they were made with other settings"
                )
            if known is row:
                _bring(restored_path(part, *row.key), restored_path(folder, *row.key))
    write_rows(folder / "rows.csv", rows.values(), metrics)
    return list(rows.values())


def _bring(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            os.link(source, part)
        except FileNotFoundError as error:
            raise UserError(
                f"--merge: the restored image '{source}' is missing: remove its row from rows.csv there, and it will be"
                " restored again"
            ) from error
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
