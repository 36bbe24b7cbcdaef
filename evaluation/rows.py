"""rows.csv: one row per (task, method, image, sample), appended while the evaluation runs, whole after a kill at any
moment.
"""

import contextlib
import csv
import fcntl
import io
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically

BEFORE = ("task", "method", "image", "sample", "seed", "sigma", "sigma_255", "seconds", "nfe")
AFTER = ("fingerprint",)
GONE = "leave --output alone while an evaluation runs, and run the same command again to make again what is lost"

RowKey = tuple[str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One restored sample. values: the metrics by name, NaN where one is missing (an empty cell in the file)."""

    task: str
    method: str
    image: str
    sample: int
    seed: int
    sigma: float
    sigma_255: float
    seconds: float
    nfe: int
    values: dict[str, float]
    fingerprint: str

    @property
    def key(self) -> RowKey:
        return (self.task, self.method, self.image, self.sample)


def cell_text(value: float | int | str | None) -> str:
    """A number with nine digits, an empty cell for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


class RowFile:
    """A CSV file that rows are appended to. A last line that a kill tore is dropped when the file is opened; a file of
    other metrics is refused.

    One process at a time may hold a file open: a lock of the system, which ends with the process, guards it.
    """

    def __init__(self, path: Path, metrics: Sequence[str]) -> None:
        self.path = path
        self.metrics = tuple(metrics)
        self._file = open(path, "ab")  # noqa: SIM115 (held open)
        _lock(
            self._file.fileno(), f"'{path}' is being written by another process: wait until it has ended", patience=10
        )
        self._mend()

    def _mend(self) -> None:
        content = self.path.read_bytes()
        header = _header(self.metrics).encode()
        whole = content.rfind(b"\n") + 1
        if content[:whole].count(b"\n") == 1 and content[:whole] != header:
            whole = 0  # no rows yet, and other metrics are asked for now
        if whole < len(content):
            self._file.truncate(whole)
        if whole == 0:
            self._write(header.decode())
        elif not content.startswith(header):
            raise ValueError(f"'{self.path}' has rows of other metrics")

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows, all of them in one go, and wait until they are on the disk."""
        self._write(_lines(rows, self.metrics))

    def _write(self, text: str) -> None:
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise UserError(f"'{self.path}' was removed while it was being written: {GONE}")
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _header(metrics: Sequence[str]) -> str:
    return ",".join((*BEFORE, *metrics, *AFTER)) + "\n"


def _lines(rows: Iterable[Row], metrics: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        head = [cell_text(getattr(row, name)) for name in BEFORE]
        writer.writerow([*head, *(cell_text(row.values.get(name)) for name in metrics), row.fingerprint])
    return text.getvalue()


def read_rows(path: Path, metrics: Sequence[str] | None = None) -> list[Row]:
    """The whole rows of a file, first one of a key wins; [] where there is no file. A torn last line is not read.

    metrics: the columns that are expected; None takes what the file has. UserError for other columns and for a damaged
    line.
    """
    if not path.exists():
        return []
    lines = path.read_bytes()
    lines = lines[: lines.rfind(b"\n") + 1]
    if not lines:
        return []
    reader = csv.reader(io.StringIO(lines.decode(errors="replace")))
    header = next(reader)
    names = header[len(BEFORE) : -len(AFTER)]
    if tuple(header[: len(BEFORE)]) != BEFORE or tuple(header[-len(AFTER) :]) != AFTER:
        raise UserError(f"'{path}' is not a file of rows that this version wrote: give another --output")
    if metrics is not None and tuple(names) != tuple(metrics) and lines.count(b"\n") > 1:
        raise UserError(
            f"'{path}' has the metrics {', '.join(names) or 'none'}, the configuration asks for {', '.join(metrics)}: "
            "run once with --metrics_only, which computes them anew from the restored images, or give another --output"
        )
    rows: dict[RowKey, Row] = {}
    for number, cells in enumerate(reader, 2):
        try:
            if len(cells) != len(header):
                raise ValueError
            task, method, image, sample, seed, sigma, sigma_255, seconds, nfe = cells[: len(BEFORE)]
            measured = cells[len(BEFORE) : -len(AFTER)]
            values = {name: float(cell) if cell else math.nan for name, cell in zip(names, measured, strict=True)}
            numbers = (int(seed), float(sigma), float(sigma_255), float(seconds), int(nfe))
            row = Row(task, method, image, int(sample), *numbers, values, cells[-1])
        except ValueError as error:
            raise UserError(
                f"'{path}' is damaged in line {number}: remove that line, its image will be restored again"
            ) from error
        rows.setdefault(row.key, row)
    return list(rows.values())


def write_rows(path: Path, rows: Iterable[Row], metrics: Sequence[str]) -> None:
    """Replace a file of rows as a whole."""
    write_atomically(path, _header(metrics) + _lines(rows, metrics))


def part_path(folder: Path, rank: int) -> Path:
    """Where the process `rank` of several appends its rows."""
    return folder / f"rows.{rank}.csv"


def gather(folder: Path, metrics: Sequence[str]) -> list[Row]:
    """Rows of rows.csv and of all part files, the parts merged into rows.csv and removed: whole at any moment, done
    again after a kill.
    """
    path = folder / "rows.csv"
    parts = sorted(p for p in folder.glob("rows.*.csv") if p.name.split(".")[1].isdigit())
    rows = {row.key: row for row in read_rows(path, metrics)}
    if not parts:
        return list(rows.values())
    for part in parts:
        with open(part, "rb") as file:  # a worker of a killed run may still be ending
            _lock(file.fileno(), f"'{part}' is being written by another process: wait until it has ended", patience=10)
            for row in read_rows(part, metrics):
                rows.setdefault(row.key, row)
    write_rows(path, rows.values(), metrics)
    for part in parts:
        part.unlink()
    return list(rows.values())


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder: a second evaluation that would write there gets a UserError. The lock ends with the process,
    however it ends.
    """
    with open(folder / ".lock", "a+") as file:
        _lock(
            file.fileno(),
            f"another evaluation is writing to '{folder}': wait until it has ended, or give another --output",
        )
        yield


def _lock(descriptor: int, message: str, patience: float = 0.0) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise UserError(message) from error
            time.sleep(0.1)
