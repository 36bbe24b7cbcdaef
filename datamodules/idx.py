"""The IDX files of MNIST and its relatives, plain or gzipped, read without writing anything: read-only folders work."""

import contextlib
import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError
from datamodules.store import MemoryStore

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain before gzipped, or None."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def complete(folder: Path) -> bool:
    """Whether all four files are in `folder`."""
    return all(find(folder, name) for names in FILES.values() for name in names)


def read(path: Path) -> np.ndarray:
    """The uint8 array of one IDX file; UserError where it is cut short or is something else.

    Format: two zero bytes, the type (8: uint8), the number of dimensions, the big-endian uint32 dimensions, the values.
    """
    content = None
    with contextlib.suppress(EOFError, zlib.error, gzip.BadGzipFile):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content is not None and len(content) > 4 and content[:3] == b"\0\0\x08":
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], ">u4").astype(int)
        if len(content) == start + shape.prod():
            return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    raise UserError(f"'{path}' is broken or not an IDX file: remove it and fetch it again")


def read_store(folder: Path, part: str) -> MemoryStore:
    """Images uint8 [N, 1, H, W] and labels of ``train`` or ``test``; UserError that names a missing or broken file."""
    paths = []
    for name in FILES[part]:
        path = find(folder, name)
        if path is None:
            where = "put it there, or set data_dir or DATA_DIR to the folder that holds it"
            raise UserError(f"'{folder / name}' (or '{name}.gz') is missing: {where}")
        paths.append(path)
    pixels, labels = read(paths[0]), read(paths[1])
    if pixels.ndim != 3 or len(pixels) != labels.size:
        raise UserError(
            f"'{paths[0]}' and '{paths[1]}' do not belong together: {pixels.shape} images and {labels.shape} labels"
        )
    return MemoryStore(torch.from_numpy(pixels.copy())[:, None], label=torch.from_numpy(labels.astype(np.int64)))
