"""What is asked of, and known about, other processes."""

import contextlib
import os
import threading
from collections.abc import Callable


def within(seconds: float, ask: Callable[[], object]) -> None:
    """Call `ask`, and wait no longer for it: whoever is asked may be gone, or not answer; what it raises is dropped."""

    def run() -> None:
        with contextlib.suppress(Exception):
            ask()

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(seconds)


def process_space() -> int:
    """The number of this machine's or container's space of process numbers, within which they are unique; 0 where that
    cannot be told.
    """
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def lives(pid: int) -> bool:
    """Whether the process with this number, in this space, is there and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
