"""Downloads that fail at once and in one sentence where there is no network."""

import contextlib
import io
import socket
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from common.files import require_writable_folder

SECONDS = 10.0  # a connection that does not answer within this time is none


def fetch(action: Callable[[], object], *, data_dir: Path, wanted: str) -> None:
    """Run a torchvision download into `data_dir`; UserError that says what is `wanted` where, if it cannot be had.

    torchvision prints while it tries its mirrors and waits without end for a silent network: the one is hidden, the
    other limited.
    """
    require_writable_folder(data_dir, "data_dir")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            action()
    # URLError and timeouts are OSErrors; RuntimeError: all mirrors failed, or a damaged file
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{wanted} not found, and the download failed ({' '.join(str(error).split())[:200]})"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
