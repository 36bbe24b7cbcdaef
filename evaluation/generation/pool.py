"""Chunks drawn by several processes of this machine; each chunk is a file of its own, so the order does not matter."""

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from common.errors import UserError, disk_message
from evaluation.generation.chunks import Chunk, draw_chunk
from evaluation.generation.config import GenerationConfig
from evaluation.generation.plan import Plan, make_plan
from evaluation.workers import device_of, end_with

_worker: tuple[Plan, Path] | None = None  # of this process


def draw_chunks(
    plan: Plan,
    folder: Path,
    chunks: Sequence[Chunk],
    *,
    devices: int,
    accelerator: str,
    precision: str,
    on_chunk: Callable[[Chunk], None],
) -> None:
    """Draw all chunks; on_chunk after each one. UserError where a process ends early: what was drawn is kept."""
    devices = min(devices, len(chunks))
    if devices < 2:
        for chunk in chunks:
            draw_chunk(plan, folder, chunk)
            on_chunk(chunk)
        return
    context = mp.get_context("spawn")
    ranks = context.Queue()
    for rank in range(devices):
        ranks.put(rank)
    others = set(mp.active_children())
    pool = ProcessPoolExecutor(
        devices, context, _begin, (plan.config, folder, devices, accelerator, precision, os.getpid(), ranks)
    )
    try:
        futures = {pool.submit(_draw, chunk): chunk for chunk in chunks}
        for future in as_completed(futures):
            future.result()
            on_chunk(futures[future])
    except BrokenProcessPool as error:
        raise UserError(
            "a process that draws images has ended (often: too little memory; use fewer --devices or a smaller"
            " batch_size): what was drawn is kept, run the same command again to go on"
        ) from error
    # told to stop, or one of them failed: a chunk can take minutes, and what is not whole is not there
    except BaseException:
        for process in set(mp.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(
    config: GenerationConfig, folder: Path, world: int, accelerator: str, precision: str, parent: int, ranks: mp.Queue
) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the one who started us ends us
    end_with(parent)
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    _worker = (
        make_plan(config, precision=precision, device=device_of(ranks.get(), accelerator), with_images=False),
        folder,
    )


def _draw(chunk: Chunk) -> None:
    assert _worker is not None  # `_begin` ran
    plan, folder = _worker
    try:
        draw_chunk(plan, folder, chunk)
    except OSError as error:
        raise UserError(disk_message(error) or str(error)) from error
