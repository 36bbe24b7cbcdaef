"""Mistakes that a user can mend: one sentence on standard error, a non-zero exit code, no stack trace."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

from common.private_names import run_exit_functions


class UserError(Exception):
    """A mistake in what the user gave; the message is one sentence that names the argument, its value and the fix."""


EXIT_USER_ERROR = 2
EXIT_LOST = 1  # one of several processes is gone: nothing that a launcher can mend
EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: "try again later", what a launcher requeues on

# What the disk says, and what a person can do about it.
_DISK = {
    errno.ENOSPC: "the disk is full: free some space, or write to another folder, then run the same command again",
    errno.EDQUOT: (
        "the disk quota is used up: free some space, or write to another folder, then run the same command again"
    ),
    errno.EFBIG: "the file would be larger than the file system or ulimit -f allows: write to another folder",
    errno.EIO: "the disk, or what leads to it, has failed: see that it works, then run the same command again",
    errno.ESTALE: "the file server does not know it any more: see that it is there, then run the same command again",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), then run the same command again",
    errno.EROFS: "the file system is read-only: write to another folder",
    errno.EACCES: "permission is denied: choose a folder that you may read and write",
    errno.EPERM: "the operation is not permitted: choose a folder that you may read and write",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another path",
    errno.EEXIST: "this is a file where a folder is needed: choose another path",
    errno.EISDIR: "this is a folder where a file is needed: give the path of a file",
}


def nearest(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the choice nearest to `name`, or an empty string where nothing is near."""
    found = difflib.get_close_matches(str(name), [str(c) for c in choices], n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def disk_message(error: OSError) -> str | None:
    """One sentence for an error of the disk that the user can mend, None for any other operating-system error."""
    hint = _DISK.get(error.errno or 0)
    if hint is None:
        return None
    return f"cannot access '{error.filename}', {hint}" if error.filename else f"cannot write, {hint}"


def fail(message: str) -> None:
    """Print one `error:` line on standard error."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr, flush=True)


def run_cli(main: Callable[[], int | None]) -> None:
    """Run an entry point: user errors and disk errors become one sentence and exit code 2, Ctrl-C becomes 130; bugs
    keep their trace.

    With ``PALIMPSEST_TRACE=1`` the stack trace of a user error is shown too.
    """
    try:
        code = main() or 0
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`): nothing is left to say. What is still buffered goes nowhere, or
        # Python would complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (UserError, OSError) as error:
        message = str(error) if isinstance(error, UserError) else disk_message(error)
        if message is None or os.environ.get("PALIMPSEST_TRACE") == "1":
            raise
        fail(message)
        code = EXIT_USER_ERROR
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to go on")
        code = EXIT_INTERRUPTED
    _leave(code)


def _leave(code: int) -> None:
    """sys.exit, but for one of several processes: there the threads of torch.distributed, which a failed run leaves
    open, can abort Python's own way out and turn the exit code into SIGABRT. What was registered with atexit still
    runs, and what was printed is written.
    """
    distributed = sys.modules.get("torch.distributed")
    if code == 0 or distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        sys.exit(code)
    run_exit_functions()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
