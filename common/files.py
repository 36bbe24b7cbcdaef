"""Files that are whole or absent: written beside their place, flushed to the disk, then renamed."""

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from common.errors import UserError


def write_atomically(
    path: str | Path, write: bytes | str | Callable[[IO[bytes]], None], *, keep: Path | None = None
) -> None:
    """Write `path` so that a reader sees the old file or the whole new one, never a part of it, whenever the process
    dies.

    An error of the disk is an OSError that names `path`, whatever the writer made of it.

    Args:
        write: the content, or a function that writes it to an open binary file. The folder is made where it is missing.
        keep: where the file that `path` was before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    disk = _Disk()
    try:
        with disk.noticed(), open(beside, "wb") as file:
            disk.file = file
            if callable(write):
                write(cast(IO[bytes], disk))
            else:
                disk.write(write.encode() if isinstance(write, str) else write)
            disk.flush()
            with disk.noticed():
                os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep(path, keep)
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if disk.error is not None and isinstance(error, Exception):
            raise OSError(disk.error.errno, disk.error.strerror, str(path)) from error
        raise


class _Disk:
    """An open file that remembers what the disk said: torch's writer of archives takes the error of a full disk for
    one of its own, and says "PytorchStreamWriter failed writing file" in its place, or "unexpected pos", by turns.
    """

    def __init__(self) -> None:
        self.file: IO[bytes] | None = None
        self.error: OSError | None = None

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise

    def write(self, content: bytes) -> int:
        with self.noticed():
            return self.file.write(content) if self.file is not None else 0

    def flush(self) -> None:
        with self.noticed():
            if self.file is not None:
                self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _keep(path: Path, keep: Path) -> None:
    """A second name for the file, so that `path` is there at any moment; where the file system has none, its name."""
    beside = keep.with_name(f".{keep.name}.{os.getpid()}.part")
    try:
        os.link(path, beside)
        os.replace(beside, keep)
    except OSError:
        os.replace(path, keep)


def remove_parts(folder: str | Path, *, below: bool = True) -> None:
    """Remove what writers that were killed have left in, and `below`, a folder that nobody else writes to."""
    for path in Path(folder).glob("**/.*.part" if below else ".*.part"):
        if re.fullmatch(r"\..+\.\d+\.part", path.name):
            path.unlink(missing_ok=True)


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
