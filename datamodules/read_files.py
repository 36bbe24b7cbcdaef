"""From picture files to a store: broken files are named, and the memory limit decides where the pixels rest."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from datamodules import pictures
from datamodules.file_store import Files, FileStore, Shape, attempt, unreadable
from datamodules.pictures import CHANNELS, GREY_MODES, Fit, Mode
from datamodules.store import ImageStore, MemoryStore


def read_files(
    files: Files,
    *,
    mode: Mode,
    fit: Callable = Fit(),
    shape: Shape | None = None,
    memory_limit_mb: int,
    strict: bool = False,
    square: int | None = None,
    crop_seed: int = 0,
) -> ImageStore:
    """A store of the pictures, fitted by `fit`: in memory where their pixels take at most `memory_limit_mb` MiB, otherwise decoded when read.

    shape: (C, H, W) of every picture at rest where it is known; None: the headers of all files are read first.
    square, crop_seed: the random crop of :class:`FileStore`. strict: the first broken file stops the run.
    Raises UserError where a file is broken (strict) or all are; otherwise one warning names what is left out, with the count.
    """
    decode = partial(pictures.decode, mode=mode, fit=fit)
    shapes: Sequence[Shape] = [shape] * len(files)
    if shape is None:
        files, found = _all(files, pictures.header, strict)
        shapes = [(CHANNELS[mode], *fit.size(w, h)[::-1]) for w, h, _ in found]
    if sum(prod(s) for s in shapes) > memory_limit_mb * 2**20:
        return FileStore(files, shapes=shape or shapes, decode=decode, square=square, crop_seed=crop_seed, strict=strict)
    files, pixels = _all(files, decode if shape is None else partial(_decode_checked, decode=decode, shape=shape), strict)
    if square is None and len({p.shape for p in pixels}) == 1:
        names = [r.as_posix() for r in files.relative]
        return MemoryStore(torch.stack(pixels), index=files.index, label=files.label, names=names)
    shapes = [tuple(p.shape) for p in pixels]
    return FileStore(files, shapes=shapes, decode=decode, pixels=pixels, square=square, crop_seed=crop_seed, strict=strict)


def mode_of(files: Files) -> Mode:
    """"grey" where every readable picture is stored in grey, "colour" otherwise."""
    found = [result for result, reason in _map(pictures.header, files) if reason is None]
    return "grey" if found and all(mode in GREY_MODES for _, _, mode in found) else "colour"


def _decode_checked(path: Path, *, decode: Callable[[Path], Tensor], shape: Shape) -> Tensor:
    pixels = decode(path)
    if tuple(pixels.shape) != shape:
        raise ValueError(f"it has {pixels.shape[2]}x{pixels.shape[1]} pixels, not {shape[2]}x{shape[1]}")
    return pixels


def _all(files: Files, function: Callable[[Path], object], strict: bool) -> tuple[Files, list]:
    """The readable files and the results of `function` on them."""
    good, results, broken = [], [], []
    for row, (result, reason) in enumerate(_map(function, files)):
        if reason is None:
            good.append(row)
            results.append(result)
        elif strict:
            raise UserError(unreadable(files.path(row), reason))
        else:
            broken.append(f"'{files.relative[row].as_posix()}' ({reason})")
    if not good:
        raise UserError(f"none of the {len(files)} pictures in '{files.folder}' can be read; the first is {broken[0]}")
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        named = ", ".join(broken[:10])
        warnings.warn(f"{len(broken)} of {len(files)} pictures in '{files.folder}' cannot be read and are left out: {named}{more}", stacklevel=4)
    return (files.select(good) if broken else files), results


def _map(function: Callable[[Path], object], files: Files):
    """Results in the order of the files, on a few threads: Pillow decodes without holding the interpreter."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda row: attempt(function, files.path(row)), range(len(files)), chunksize=64)
