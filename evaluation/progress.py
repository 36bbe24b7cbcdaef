"""How far the evaluation is: a bar with the time left on a terminal, a line now and then elsewhere; always on standard
error.
"""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evaluation.cells import Cell

INTERVAL = 10.0  # seconds between lines where there is no terminal


class Display:
    """advance(cell, samples): the bar moves by the network calls these samples cost, so that the time left is right
    across cheap and dear methods.
    """

    def __init__(self, cells: list[Cell]) -> None:
        self._total = sum(cell.work for cell in cells)
        self._samples = sum(cell.images * cell.num_samples for cell in cells)
        self._work, self._finished = 0.0, 0.0
        self._start = self._last = time.monotonic()
        self._console = Console(stderr=True)
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self._bar = Progress(*columns, console=self._console, transient=True) if sys.stderr.isatty() else None
        self._task = self._bar.add_task("starting", total=self._total) if self._bar else TaskID(0)

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, cell: Cell, samples: float) -> None:
        """Some samples of a cell were restored; a fraction of one counts."""
        self._work += samples * max(1, cell.nfe + 2 * cell.backwards)
        self._finished += samples
        if self._bar:
            self._bar.update(self._task, completed=self._work, description=f"{cell.task} x {cell.method}")
            return
        now = time.monotonic()
        if now - self._last >= INTERVAL and self._work:
            self._last = now
            left = (now - self._start) * (self._total - self._work) / self._work
            say(f"{cell.task} x {cell.method}: {self._finished:.0f} of {self._samples} samples, {duration(left)} left")

    def summary(self) -> str:
        """What was done, in how long."""
        return f"{self._finished:.0f} samples in {duration(time.monotonic() - self._start)}"


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """ "12 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
