"""Weight files of other projects: what they are called, where they come from, where they are looked for."""

import os
import shutil
import socket
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import require_writable_folder, sha256_of, write_atomically

SECONDS = 20.0  # a connection that does not answer within this time is none


@dataclass(frozen=True)
class WeightFile:
    """A file that another project publishes. Only :meth:`fetch` touches a network.

    Args:
        name: of the file.
        what: in messages, "the Inception network".
        url: where it is published.
        megabytes: its size, about.
        sha256: the first digits of its hash, "" where nobody published one.
    """

    name: str
    what: str
    url: str
    megabytes: int
    sha256: str = ""

    def places(self) -> list[Path]:
        """Where it is looked for: WEIGHTS_DIR, torch's cache, and the temporary folder, where clean-fid keeps its
        own.
        """
        return [folder / self.name for folder in (*_given(), hub_folder(), Path(tempfile.gettempdir()))]

    def find(self, path: str | None = None) -> Path | None:
        """The first place that has it; None where none has. path: the only place to look at."""
        return next((p for p in self._looked_at(path) if p.is_file()), None)

    def absence(self, path: str | None = None) -> str:
        """A sentence that says what is missing where, and how to have it."""
        where = ", ".join(f"'{p}'" for p in self._looked_at(path))
        return (
            f"{self.what} is not there (looked for {where}): run evaluate.py --prepare with this config where there is"
            f" a network, or fetch {self.url} ({self.megabytes} MB) and put it there or into a folder that WEIGHTS_DIR"
            " names"
        )

    def fetch(self) -> Path:
        """Download it into WEIGHTS_DIR, or torch's cache where that is not set; the path.

        Raises:
            UserError: no network, no such file, no place on the disk, or not the file that was published.
        """
        target = (*_given(), hub_folder())[0] / self.name
        require_writable_folder(target.parent, "WEIGHTS_DIR")
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SECONDS)
        try:
            with urllib.request.urlopen(self.url) as response:
                write_atomically(target, lambda file: shutil.copyfileobj(response, file))
        except OSError as error:  # URLError and timeouts are OSErrors
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"'{self.name}' ({self.what}) could not be fetched from {self.url}: {reason}") from error
        finally:
            socket.setdefaulttimeout(before)
        if not self.is_published(target):
            target.unlink()
            raise UserError(
                f"what {self.url} answered is not '{self.name}': its SHA-256 does not begin with {self.sha256}; try"
                " again, or fetch the file by hand"
            )
        return target

    def is_published(self, path: Path) -> bool:
        """Whether the hash of a file is the published one; True where none was published."""
        return not self.sha256 or sha256_of(path).startswith(self.sha256)

    def _looked_at(self, path: str | None) -> list[Path]:
        return [Path(path)] if path else self.places()


def hub_folder() -> Path:
    """Where torch keeps what it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    return Path(os.environ.get("TORCH_HOME") or cache) / "hub" / "checkpoints"


def _given() -> list[Path]:
    return [Path(os.environ["WEIGHTS_DIR"])] if os.environ.get("WEIGHTS_DIR") else []
