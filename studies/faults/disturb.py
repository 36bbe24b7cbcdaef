"""What a fault does to a program, or to what it needs; and how a person mends it before the same command is given
again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from studies.faults.moments import processes_of
from studies.faults.programs import ROOT, inputs_of
from studies.faults.warm import Started

LIBFAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
DAY = 86400
Process = subprocess.Popen | Started


class Fault:
    """Nothing happens. Each method is given the folder of the case; `output` is what the program writes below it."""

    def missing(self) -> str | None:
        """Why it cannot be done here; None where it can."""
        return None

    def prepare(self, folder: Path, output: Path) -> dict[str, str]:
        """Before the program starts; what the environment of both its starts needs."""
        return {}

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        """At the moment."""

    def mend(self, folder: Path, output: Path) -> None:
        """Between the end of the program and the second start."""

    def clean(self, folder: Path, output: Path) -> None:
        """When all is over."""


@dataclass(frozen=True)
class Signal(Fault):
    """to: "first" process, "second" one, or "all"."""

    number: signal.Signals
    to: str = "first"

    def __str__(self) -> str:
        return self.number.name + {"first": "", "second": " to the second process", "all": " to all processes"}[self.to]

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        found = processes_of(folder)
        others = [pid for pid in found if pid != process.pid]
        chosen = {"first": [process.pid], "second": others[:1], "all": [process.pid, *others]}[self.to]
        for pid in chosen or [process.pid]:
            _send(pid, self.number)


@dataclass(frozen=True)
class FullDisk(Fault):
    """The program writes to a disk with room for so many kilobytes; a person makes it larger."""

    kilobytes: int

    def __str__(self) -> str:
        return f"disk full at {self.kilobytes} kB"

    def missing(self) -> str | None:
        return _needs_mount()

    def prepare(self, folder: Path, output: Path) -> dict[str, str]:
        output.mkdir()
        _call("mount", "-t", "tmpfs", "-o", f"size={self.kilobytes}k", "tmpfs", output)
        return {}

    def mend(self, folder: Path, output: Path) -> None:
        _call("mount", "-o", "remount,size=256m", output)

    def clean(self, folder: Path, output: Path) -> None:
        _call("umount", "--lazy", output)


@dataclass(frozen=True)
class ReadOnlyDisk(Fault):
    def __str__(self) -> str:
        return "read-only file system"

    def missing(self) -> str | None:
        return _needs_mount()

    def prepare(self, folder: Path, output: Path) -> dict[str, str]:
        output.mkdir()
        _call("mount", "-t", "tmpfs", "-o", "ro,size=256m", "tmpfs", output)
        return {}

    def mend(self, folder: Path, output: Path) -> None:
        _call("mount", "-o", "remount,rw", output)

    def clean(self, folder: Path, output: Path) -> None:
        _call("umount", "--lazy", output)


@dataclass(frozen=True)
class ReadOnlyFolder(Fault):
    """The output and all folders in it take no new files and lose none, in the middle of the work: root too."""

    def __str__(self) -> str:
        return "folder becomes read-only"

    def missing(self) -> str | None:
        return None if os.geteuid() == 0 and shutil.which("chattr") else "chattr +i needs root"

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        with _held(folder):
            _call("chattr", "+i", *_folders(output))

    def mend(self, folder: Path, output: Path) -> None:
        _call("chattr", "-i", *_folders(output))


@dataclass(frozen=True)
class Removed(Fault):
    """A folder is removed in the middle of the work; data are put back."""

    what: str  # below the folder of the case
    name: str

    def __str__(self) -> str:
        return f"{self.name} removed"

    @property
    def _data(self) -> bool:
        return self.what == "data"

    def prepare(self, folder: Path, output: Path) -> dict[str, str]:
        if self._data:
            shutil.copytree(inputs_of(folder) / "data", folder / "data")
        return {}

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        with _held(folder):
            shutil.rmtree(folder / self.what)

    def mend(self, folder: Path, output: Path) -> None:
        if self._data:
            self.prepare(folder, output)


@dataclass(frozen=True)
class Damaged(Fault):
    """SIGKILL, and what it had written is damaged."""

    how: str  # "cut to half", "zeros in the middle", "empty"
    files: tuple[str, ...]  # below the output

    def __str__(self) -> str:
        return f"SIGKILL, {' and '.join(Path(f).name for f in self.files)} {self.how}"

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        for pid in processes_of(folder):
            _send(pid, signal.SIGKILL)

    def mend(self, folder: Path, output: Path) -> None:
        for name in self.files:
            path = output / name
            content = path.read_bytes()
            middle = len(content) // 2
            new = {
                "cut to half": content[:middle],
                "zeros in the middle": content[: middle // 2] + bytes(middle) + content[middle // 2 + middle :],
                "empty": b"",
                "torn in its last line": content[:-5],
            }[self.how]
            path.unlink()  # a second name of the file keeps what was in it
            path.write_bytes(new)


@dataclass(frozen=True)
class Clock(Fault):
    """The clock of the system jumps; where `stop`, the program is stopped as well, and starts again under it."""

    days: float
    stop: bool = False

    def __str__(self) -> str:
        return f"clock moved by {self.days:+g} days" + (", SIGTERM" if self.stop else "")

    def missing(self) -> str | None:
        return None if _libfaketime() else "libfaketime is not installed (Debian: apt-get install libfaketime)"

    def prepare(self, folder: Path, output: Path) -> dict[str, str]:
        (folder / "clock").write_text("+0")
        return {
            "LD_PRELOAD": str(_libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        (folder / "clock").write_text(f"{round(self.days * DAY):+d}")
        if self.stop:
            time.sleep(0.2)
            _send(process.pid, signal.SIGTERM)


@dataclass(frozen=True)
class SecondJob(Fault):
    """The same command in the same folder while the first stands still; it has to be refused."""

    def __str__(self) -> str:
        return "two jobs in one folder"

    def strike(self, folder: Path, output: Path, process: Process, command: Sequence[str]) -> None:
        environment = json.loads((folder / "environment.json").read_text())
        with _held(folder), (folder / "second.txt").open("w") as said:
            how = {"stdout": said, "stderr": subprocess.STDOUT, "env": environment, "start_new_session": True}
            code = subprocess.run(command, cwd=ROOT, timeout=1500, check=False, **how).returncode
        (folder / "second_code").write_text(str(code))


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(pid, number)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """All processes of the case stand still."""
    found = processes_of(folder)
    for pid in found:
        _send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in found:
            _send(pid, signal.SIGCONT)


def _folders(output: Path) -> list[Path]:
    return [p for p in (output, *output.rglob("*")) if p.is_dir()]


def _needs_mount() -> str | None:
    return None if sys.platform == "linux" and os.geteuid() == 0 else "a small tmpfs needs root"


def _libfaketime() -> str | None:
    return next((path for path in LIBFAKETIME if Path(path).exists()), None)


def _call(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
