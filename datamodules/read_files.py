"""From picture files to a store: broken files are named, and the memory limit decides where the pixels rest."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from common.errors import UserError
from datamodules import pictures, pixel_cache
from datamodules.file_store import Files, FileStore, Shape, attempt, unreadable
from datamodules.pictures import CHANNELS, Fit, Mode
from datamodules.store import ImageStore, MemoryStore


def read_files(
    files: Files,
    *,
    mode: Mode,
    fit: Any = None,
    shape: Shape | None = None,
    memory_limit_mb: int,
    strict: bool = False,
    square: int | None = None,
    crop_seed: int = 0,
) -> ImageStore:
    """A store of the pictures, fitted by `fit` (None: as they are): in memory up to `memory_limit_mb`, larger ones
    decoded when read.

    shape: (C, H, W) of every picture at rest where it is known; None: the headers of all files are read first.
    square, crop_seed: the random crop of :class:`FileStore`. strict: the first broken file stops the run.
    Raises UserError where a file is broken (strict) or all are; otherwise one warning names what is left out, with the
    count.
    """
    fit = fit or Fit()
    decode: Callable[[Path], Tensor] = partial(pictures.decode, mode=mode, fit=fit)
    if shape is not None:
        shapes = [shape] * len(files)
    else:
        files, found = _all(files, pictures.header, strict)
        sizes = [fit.size(int(w), int(h)) for w, h, _ in found]
        shapes = [(CHANNELS[mode], height, width) for width, height in sizes]
    if sum(prod(s) for s in shapes) > memory_limit_mb * 2**20:
        return FileStore(
            files, shapes=shape or shapes, decode=decode, square=square, crop_seed=crop_seed, strict=strict
        )
    cache = pixel_cache.path_for(files, f"{mode} {fit!r}") if shape is not None and square is None else None
    kept = pixel_cache.load(cache, len(files))
    if kept is not None:
        return _in_memory(kept, files)
    if cache is not None:
        rank_zero_info(
            f"decoding {len(files)} pictures of '{files.folder}' (kept in '{cache.parent}' for the next run)"
        )
    if shape is not None:
        whole, pixels = len(files), torch.empty(len(files), *shape, dtype=torch.uint8)
        files, found = _all(files, partial(_decode_checked, decode=decode, shape=shape), strict, into=pixels)
        pixels = pixels[: len(found)]
        # with a broken file among them: it is to be named every time
        pixel_cache.save(cache if len(files) == whole else None, pixels)
        return _in_memory(pixels, files)
    files, found = _all(files, decode, strict)
    pixels = list(found)
    if square is None and len({p.shape for p in pixels}) == 1:
        return _in_memory(torch.stack(pixels), files)
    shapes = [(p.shape[0], p.shape[1], p.shape[2]) for p in pixels]
    return FileStore(
        files, shapes=shapes, decode=decode, pixels=pixels, square=square, crop_seed=crop_seed, strict=strict
    )


def _in_memory(pixels: Tensor, files: Files) -> MemoryStore:
    return MemoryStore(pixels, index=files.index, label=files.label, names=[r.as_posix() for r in files.relative])


def mode_of(files: Files) -> Mode:
    """ "grey" where every readable picture is stored in grey, "colour" otherwise."""
    found = [result for result, reason in _map(pictures.header, files) if reason is None]
    return "grey" if found and all(mode == "grey" for _, _, mode in found) else "colour"


def _decode_checked(path: Path, *, decode: Callable[[Path], Tensor], shape: Shape) -> Tensor:
    pixels = decode(path)
    if tuple(pixels.shape) != shape:
        raise ValueError(f"it has {pixels.shape[2]}x{pixels.shape[1]} pixels, not {shape[2]}x{shape[1]}")
    return pixels


def _all(
    files: Files, function: Callable[[Path], Any], strict: bool, into: Tensor | None = None
) -> tuple[Files, list[Any] | Tensor]:
    """The readable files and the results of `function` on them, a list or the filled rows of `into` (one copy of large
    sets, not two).
    """
    good: list[int] = []
    results: list[Any] = []
    broken: list[str] = []
    for row, (result, reason) in enumerate(_map(function, files)):
        if reason is None:
            if into is None:
                results.append(result)
            else:
                into[len(good)] = result
            good.append(row)
        elif strict:
            raise UserError(unreadable(files.path(row), reason))
        else:
            broken.append(f"'{files.relative[row].as_posix()}' ({reason})")
    if not good:
        raise UserError(f"none of the {len(files)} pictures in '{files.folder}' can be read; the first is {broken[0]}")
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        named = ", ".join(broken[:10])
        what = f"{len(broken)} of {len(files)} pictures in '{files.folder}'"
        warnings.warn(f"{what} cannot be read and are left out: {named}{more}", stacklevel=4)
    return (files.select(good) if broken else files), (results if into is None else into[: len(good)])


def _map(function: Callable[[Path], Any], files: Files) -> Iterator[tuple[Any, str | None]]:
    """Results in the order of the files; on a few threads where one file takes longer than a thread's hand-over costs.

    Pillow decodes without holding the interpreter: large pictures and slow disks gain, CIFAR's 32x32 pixels lose (0.2
    ms against 0.35 ms).
    """
    begin, trial = time.perf_counter(), min(8, len(files))
    yield from [attempt(function, files.path(row)) for row in range(trial)]
    rest = range(trial, len(files))
    if time.perf_counter() - begin < 0.002 * trial:
        yield from (attempt(function, files.path(row)) for row in rest)
    else:
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            yield from pool.map(lambda row: attempt(function, files.path(row)), rest)
