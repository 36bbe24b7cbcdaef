"""Measurements as files: which there are, and whose they are."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError

MANIFEST = "measurements.json"
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One measurement: of which task and image (name, index in its data set, hash of shape and pixels), and where its y
    lies: `block`, a .npy file below the folder, at `position`.

    Args:
        mask: the file of the masks, at the same position; None where there are no holes.
        impulse: the file of A e, [1 or n, C, H, W], e being 1 at the middle pixel (H // 2, W // 2) in every channel and
            0 elsewhere: a blur's kernel in its place; None where A is not linear or is a mask.
        mask_sha256: of the mask at this position; None without one, or where an earlier version wrote it.
        impulse_sha256: of this measurement's A e, in the same way.
    """

    task: str
    image: str
    index: int
    block: str
    position: int
    y_sha256: str
    image_sha256: str
    mask: str | None = None
    impulse: str | None = None
    mask_sha256: str | None = None
    impulse_sha256: str | None = None


def read_manifest(folder: Path) -> list[Entry]:
    """The entries of a folder of measurements.

    Raises:
        UserError: it is none, or one that another version wrote.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"there is no {MANIFEST} in '{folder}': write it with python -m evaluation.measurements"
        ) from error
    except ValueError as error:
        raise UserError(f"'{path}' is damaged: write the measurements again") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"'{path}' is not a manifest that this version wrote: write the measurements again")
    try:
        entries = [Entry(**entry) for entry in content["entries"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged: write the measurements again") from error
    if any(not isinstance(e.index, int) or not isinstance(e.position, int) for e in entries):
        raise UserError(f"'{path}' is damaged: write the measurements again")
    return entries


class Blocks:
    """The files of y of a folder, each opened once and read when needed.

    Args:
        folder: of the measurements.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: dict[str, np.ndarray] = {}

    def y(self, entry: Entry) -> np.ndarray:
        """The measurement of an entry, [C, H, W]; UserError where its file is missing, damaged or too short."""
        if entry.block not in self._opened:
            self._opened[entry.block] = self._open(self.folder / entry.block)
        block = self._opened[entry.block]
        if not 0 <= entry.position < len(block):
            raise UserError(
                f"'{self.folder / entry.block}' has {len(block)} measurements, and {MANIFEST} names position"
                f" {entry.position}: write the measurements again"
            )
        return block[entry.position]

    def _open(self, path: Path) -> np.ndarray:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise UserError(f"'{path}', which {MANIFEST} names, is not there: write the measurements again") from error
        except (ValueError, EOFError) as error:
            raise UserError(f"'{path}' is damaged: write the measurements again") from error


def sha256_of_array(values: np.ndarray) -> str:
    """Of the bytes of a contiguous array."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
