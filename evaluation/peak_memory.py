"""The most memory that the batches of a cell needed, measured while they are restored and kept in memory.csv."""

import contextlib
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from common.errors import UserError
from evaluation.plan import Key
from evaluation.rows import GONE

MEMORY = "memory.csv"
TENSORS, PROCESS = "tensors on the GPU", "the process"


class PeakMemory:
    """The most memory since :meth:`begin`, in MB of 10^6 bytes.

    On a GPU: of tensors, those that were there before included (the network). On a CPU, where no allocator counts: the
    most resident memory of the whole process (VmHWM of Linux, set back by /proc/self/clear_refs), Python, data and what
    earlier cells left to it included, so that only what a cell needs above those before it shows. None where the system
    does not say it.

    Args:
        device: of the restoration.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def what(self) -> str:
        """What is counted."""
        return TENSORS if self.device.type == "cuda" else PROCESS

    def begin(self) -> None:
        """Count from now on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def megabytes(self) -> float | None:
        """The most since then."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        return None


class MemoryFile:
    """memory.csv of a folder, a line whenever a cell needed more than before in this process: task, method, samples at
    once, MB, what is counted. Several processes append to one file, each line by one call of the system.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MEMORY
        self._most: dict[Key, float] = {}

    def note(self, key: Key, chains: int, megabytes: float | None, what: str) -> None:
        """Keep it where it is the most so far."""
        if megabytes is None or megabytes <= self._most.get(key, 0.0):
            return
        self._most[key] = megabytes
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([*key, chains, f"{megabytes:.1f}", what])
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except FileNotFoundError as error:
            raise UserError(f"'{self.path.parent}' was removed while it was being written to: {GONE}") from error
        try:
            os.write(file, line.getvalue().encode())
        finally:
            os.close(file)


def read_memory(folders: Sequence[Path]) -> dict[Key, tuple[int, float, str]]:
    """The most of each cell, over the files of these folders: samples at once, MB, what was counted. A line that a kill
    tore or a disk damaged is left out.
    """
    found: dict[Key, tuple[int, float, str]] = {}
    for path in (folder / MEMORY for folder in folders):
        with contextlib.suppress(FileNotFoundError), open(path, newline="", encoding="utf-8", errors="replace") as file:
            for line in csv.reader(file):
                if len(line) == 5 and line[4] in (TENSORS, PROCESS):
                    with contextlib.suppress(ValueError):
                        key, entry = (line[0], line[1]), (int(line[2]), float(line[3]), line[4])
                        if key not in found or entry[1] > found[key][1]:
                            found[key] = entry
    return found


def bring_memory(folder: Path, parts: Sequence[Path]) -> None:
    """Keep in `folder` what cells needed in `parts`, which need not stay; again changes nothing."""
    there, file = read_memory([folder]), MemoryFile(folder)
    for key, (chains, megabytes, what) in read_memory(parts).items():
        if key not in there or megabytes > there[key][1]:
            file.note(key, chains, megabytes, what)
