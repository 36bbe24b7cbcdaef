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
)

from evaluation.cells import Cell

INTERVAL = 10.0  # seconds between lines where there is no terminal


class Display:
    """advance(cell, samples): the bar moves by the network calls these samples cost; the time left is reckoned cell by
    cell, from what the samples of each took.
    """

    def __init__(self, cells: list[Cell]) -> None:
        self._total = sum(cell.work for cell in cells)
        self._samples = sum(cell.images * cell.num_samples for cell in cells)
        self._cells = {(cell.task, cell.method): cell for cell in cells}
        self._work, self._finished = 0.0, 0.0
        self._seconds: dict[tuple[str, str], float] = {}
        self._done: dict[tuple[str, str], float] = {}
        self._start = self._last = self._before = time.monotonic()
        self._console = Console(stderr=True)
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        ]
        self._bar = Progress(*columns, console=self._console, transient=True) if sys.stderr.isatty() else None
        self._task = self._bar.add_task("starting", total=self._total, left="") if self._bar else TaskID(0)

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, cell: Cell, samples: float) -> None:
        """Some samples of a cell were restored; a fraction of one counts."""
        now = time.monotonic()
        key = (cell.task, cell.method)
        self._seconds[key] = self._seconds.get(key, 0.0) + now - self._before
        self._done[key] = self._done.get(key, 0.0) + samples
        self._before = now
        self._work += samples * max(1, cell.nfe + 2 * cell.backwards)
        self._finished += samples
        if self._bar:
            self._bar.update(
                self._task,
                completed=self._work,
                description=f"{cell.task} x {cell.method}",
                left=self._left(),
            )
            return
        if now - self._last >= INTERVAL and self._work:
            self._last = now
            say(f"{cell.task} x {cell.method}: {self._finished:.0f} of {self._samples} samples, {self._left()}")

    def _left(self) -> str:
        """ "2 min 10 s left": of every cell by what its own samples took; of one that has not begun by what its method
        took on another task, else, where it calls a network, by the calls of the cells measured that do, which is said.
        What cannot be reckoned from any of them is not: "at least".
        """
        known = {key: seconds / self._done[key] for key, seconds in self._seconds.items() if self._done[key] > 0}
        networks = [key for key in known if self._cells[key].nfe]
        calls = sum(self._done[key] * _calls(self._cells[key]) for key in networks)
        each = sum(self._seconds[key] for key in networks) / calls if calls else None
        total, guessed, unknown = 0.0, False, False
        for key, cell in self._cells.items():
            left = max(0.0, cell.images * cell.num_samples - self._done.get(key, 0.0))
            alike = [rate for (_, method), rate in known.items() if method == cell.method]
            rate = known.get(key, sum(alike) / len(alike) if alike else None)
            if rate is None and left > 0:
                rate = each * _calls(cell) if each is not None and cell.nfe else None
                guessed, unknown = guessed or rate is not None, unknown or rate is None
            total += left * (rate or 0.0)
        return f"{'at least ' if unknown else 'about ' if guessed else ''}{duration(total)} left"

    def summary(self) -> str:
        """What was done, in how long."""
        return f"{self._finished:.0f} samples in {duration(time.monotonic() - self._start)}"


def _calls(cell: Cell) -> int:
    return max(1, cell.nfe + 2 * cell.backwards)


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
