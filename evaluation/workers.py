"""Several processes on one node: each restores every W-th image into a row file of its own; whoever started them merges
the files.
"""

import os
import queue
import signal
import threading
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp

from common.errors import UserError, disk_message
from evaluation.cells import Cell
from evaluation.config import Config
from evaluation.engine import Engine, Share
from evaluation.plan import make_plan
from evaluation.progress import Display
from evaluation.rows import RowFile, RowKey, part_path


def run_workers(
    config: Config,
    folder: Path,
    cells: list[Cell],
    done: frozenset[RowKey],
    *,
    world: int,
    accelerator: str,
    precision: str,
    display: Display,
) -> None:
    """Run `world` processes until all cells are done. Raises UserError where one of them ends early; what was restored
    is kept.
    """
    context = mp.get_context("spawn")
    messages = context.Queue()
    arguments = (config, folder, cells, done, world, accelerator, precision, os.getpid(), messages)
    workers = [
        context.Process(target=_work, args=(rank, *arguments), daemon=True, name=f"worker {rank}")
        for rank in range(world)
    ]
    finished: set[int] = set()
    try:
        for worker in workers:
            worker.start()
        while len(finished) < world:
            try:
                kind, rank, content = messages.get(timeout=0.5)
            except queue.Empty:
                kind = None
            if kind == "progress":
                for index, samples in content.items():
                    display.advance(cells[index], samples)
            elif kind == "done":
                finished.add(rank)
            elif kind == "error":
                raise UserError(content)
            elif kind is None:
                for rank, worker in enumerate(workers):
                    if rank not in finished and worker.exitcode is not None:
                        _explain(messages, rank, worker.exitcode)
    finally:
        for worker in workers:
            if len(finished) < world and worker.pid is not None and worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join(10)
                if worker.is_alive():
                    worker.kill()


def _explain(messages: mp.Queue, rank: int, code: int) -> None:
    """Raise for a worker that is gone: with its own last words, where there are any."""
    others = []
    while True:
        try:
            kind, who, content = messages.get(timeout=0.2)
        except queue.Empty:
            break
        if kind == "error":
            raise UserError(content)
        if kind == "done":
            others.append((kind, who, content))
            if who == rank:
                for message in others:  # those of its neighbours too: they were taken out of the queue here
                    messages.put(message)
                return
    how = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
    hint = (
        " (often: too little memory; use fewer --devices or a smaller --batch_size)" if code == -signal.SIGKILL else ""
    )
    raise UserError(f"worker {rank} {how}{hint}: what it had restored is kept, run the same command again to go on")


def device_of(rank: int, accelerator: str) -> torch.device:
    """The device of a worker."""
    return torch.device("cuda", rank % torch.cuda.device_count()) if accelerator == "cuda" else torch.device("cpu")


def _work(
    rank: int,
    config: Config,
    folder: Path,
    cells: list[Cell],
    done: frozenset[RowKey],
    world: int,
    accelerator: str,
    precision: str,
    parent: int,
    messages: mp.Queue,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the one who started us ends us
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # so does the one that SLURM sends to all processes of a step
    end_with(parent)
    try:
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
        plan = make_plan(
            config, precision=precision, device=device_of(rank, accelerator), prepare=False, measuring=False
        )
        reporter = _Reporter(rank, cells, messages)
        with RowFile(part_path(folder, rank), plan.metrics.row_columns) as rows:
            Engine(plan, folder, rows, share=Share(rank, world), on_progress=reporter.advance).run(cells, done)
        reporter.send()
        messages.put(("done", rank, None))
    except (UserError, OSError) as error:
        message = str(error) if isinstance(error, UserError) else disk_message(error)
        if message is None:
            raise
        messages.put(("error", rank, message))


class _Reporter:
    """Sends how many samples of each cell were restored, at most a few times a second."""

    def __init__(self, rank: int, cells: list[Cell], messages: mp.Queue) -> None:
        self._rank, self._messages = rank, messages
        self._number = {id(cell): i for i, cell in enumerate(cells)}
        self._since: dict[int, float] = {}
        self._last = 0.0

    def advance(self, cell: Cell, samples: float) -> None:
        number = self._number[id(cell)]
        self._since[number] = self._since.get(number, 0.0) + samples
        if time.monotonic() - self._last > 0.3:
            self.send()

    def send(self) -> None:
        self._last = time.monotonic()
        self._messages.put(("progress", self._rank, self._since))
        self._since = {}


def end_with(parent: int) -> None:
    """End this process as soon as the one that started it is gone: nothing would read its rows, and it would hold its
    file.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()
