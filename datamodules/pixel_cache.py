"""Decoded pixels kept between runs, under the user's cache folder: decoding 30,000 files takes many seconds, reading
one takes one.

``XDG_CACHE_HOME/palimpsest/pixels`` (default ``~/.cache``); it may be deleted at any time. Where it cannot be written,
nothing is kept.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.files import write_atomically
from datamodules.file_store import Files

LEAST_FILES = 2000  # fewer are decoded in less than a second
_VERSION = "2"  # of the decoding: a change of its result needs another number


def path_for(files: Files, recipe: str) -> Path | None:
    """Where the pixels of these files, decoded by `recipe`, are kept; None where there are too few to be worth it.

    The name is a hash of the folder and the recipe, and one of the names, sizes and times of change of all files.
    """
    if len(files) < LEAST_FILES:
        return None
    content = hashlib.blake2b(digest_size=16)
    try:
        for row, relative in enumerate(files.relative):
            status = os.stat(files.path(row))
            content.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
        origin = f"{_VERSION}\0{files.folder.resolve()}\0{recipe}".encode(errors="surrogateescape")
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except (OSError, RuntimeError):  # a file went away, or there is no home folder
        return None
    name = f"{hashlib.blake2b(origin, digest_size=16).hexdigest()}-{content.hexdigest()}.npy"
    return base / "palimpsest" / "pixels" / name


def load(path: Path | None, count: int) -> Tensor | None:
    """The kept pixels uint8 [count, C, H, W], or None."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        if path is not None and path.is_file():
            pixels = np.load(path, allow_pickle=False)
            if pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == count:
                return torch.from_numpy(pixels)
    return None


def save(path: Path | None, pixels: Tensor) -> None:
    """Keep pixels, and drop what was kept of an earlier state of the same folder; a full or read-only disk is
    no error.
    """
    if path is None:
        return
    with contextlib.suppress(OSError):
        write_atomically(path, lambda file: np.save(file, pixels.numpy(), allow_pickle=False))
        for older in path.parent.glob(f"{path.name.split('-')[0]}-*.npy"):
            if older != path:
                older.unlink()
