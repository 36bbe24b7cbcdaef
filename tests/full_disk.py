"""A disk with little room, as a file that can be put in the place of an open one."""

import errno
from pathlib import Path
from typing import Any


class FullDisk:
    """``open(path, mode)`` on a disk with room for so many bytes."""

    def __init__(self, path: Path, mode: str, *, room: int) -> None:
        self.file, self.left = open(path, mode), room  # noqa: SIM115  (closed below)

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> int:
        if len(content) > self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(content)
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
