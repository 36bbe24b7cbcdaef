"""When a fault happens: a moment of a program that runs, seen from outside."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from studies.faults.warm import Started

EVERY = 0.004  # seconds between two looks
PATIENCE = 600.0


@dataclass(frozen=True)
class Lines:
    """As soon as a file below the output has that many lines after its head, and `later` seconds."""

    count: int
    file: str | None = None  # None: the one that says how far the program is
    later: float = 0.0

    def __str__(self) -> str:
        more = f" + {1000 * self.later:.0f} ms" if self.later else ""
        return f"{self.file or 'row'} {self.count}{more}" if self.file is None else f"{self.count} of {self.file}{more}"


@dataclass(frozen=True)
class There:
    """As soon as a file is there, and `later` seconds."""

    file: str
    later: float = 0.0

    def __str__(self) -> str:
        return f"{self.file or 'output'} is there" + (f" + {self.later:.1f} s" if self.later else "")


@dataclass(frozen=True)
class Share:
    """After that share of the time that the undisturbed program takes, counted from when it answers signals."""

    share: float

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} % of its time"


@dataclass(frozen=True)
class Start:
    """There from the beginning."""

    def __str__(self) -> str:
        return "from its start"


Moment = Lines | There | Share | Start


def wait_for(
    moment: Moment, process: subprocess.Popen | Started, output: Path, *, progress: str | None, whole: float
) -> bool:
    """Whether the moment came before the program ended.

    Args:
        output: the folder that the program writes.
        progress: the file below it that :class:`Lines` counts.
        whole: seconds that the undisturbed program takes.
    """
    later = getattr(moment, "later", 0.0)
    if isinstance(moment, Share):
        later = moment.share * whole
    end = time.monotonic() + PATIENCE
    while not _come(moment, process.pid, output, progress):
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(EVERY)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(later)
    return process.poll() is None


def _come(moment: Moment, pid: int, output: Path, progress: str | None) -> bool:
    if isinstance(moment, There):
        return (output / moment.file).exists()
    if isinstance(moment, Share):
        return answers(pid)
    if isinstance(moment, Lines):
        return lines(output / (moment.file or progress or "")) >= moment.count
    return True


def lines(path: Path) -> int:
    """After the head."""
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def answers(pid: int) -> bool:
    """Whether the process has a handler of its own for SIGTERM."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) & 1 << (signal.SIGTERM - 1))


#: Sessions that belong to a folder and do not have it in their command.
SESSIONS: dict[Path, set[int]] = {}


def processes_of(folder: Path) -> list[int]:
    """All that have the folder in their command, or are of a session of it, the eldest first."""
    found, sessions = [], SESSIONS.get(folder, set())
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            status, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            mine = f"{folder}/".encode() in words or int(session) in sessions
            if mine and status != "Z" and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return sorted(found)


def wait_until_ended(folder: Path, patience: float) -> bool:
    """Whether all processes of a folder have ended in time; those that have not are killed."""
    end = time.monotonic() + patience
    while left := processes_of(folder):
        if time.monotonic() > end:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True
