"""Files that are whole or absent: written beside their place, flushed to the disk, then renamed."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from common.errors import UserError


def write_atomically(path: str | Path, write: bytes | str | Callable[[IO[bytes]], None]) -> None:
    """Write `path` so that a reader sees the old file or the whole new one, never a part of it, whenever the process
    dies.

    `write`: the content, or a function that writes it to an open binary file. The folder is made where it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            if callable(write):
                write(file)
            else:
                file.write(write.encode() if isinstance(write, str) else write)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable_folder(path: str | Path, argument: str) -> Path:
    """Make the folder `path` and write a probe into it; UserError naming `argument` where that cannot be done."""
    path = Path(path)
    probe = path / f".probe.{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{argument} '{path}' cannot be written ({error.strerror}): give another folder, or free some space"
        ) from error
    return path


@contextlib.contextmanager
def held_folder(path: str | Path, message: str) -> Iterator[None]:
    """Hold a folder that exists against other processes that ask so, too: UserError with `message` where one holds it.

    The lock is on the folder itself: it leaves no file, and ends with the process, however it ends. A file system
    without locks holds nothing.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(message) from error
        except OSError:  # NFS and Lustre: two at a time are not noticed
            pass
        yield
    finally:
        os.close(descriptor)
