"""What an entry point does with TERM and USR1 before and outside of its own handling: says so, and exits 75."""

import signal
import sys
from types import FrameType
from typing import NoReturn

from common.errors import EXIT_PREEMPTED, fail

#: A cluster's "your time is over": SLURM sends either, a person's `kill` sends the first.
STOPS = (signal.SIGTERM, signal.SIGUSR1)


def answer_stop_signals(then: str = "run the same command again to go on") -> None:
    """The first statement of every entry point, before anything heavy is imported: from here on a signal to stop ends
    the program with exit code 75, which a launcher queues again, instead of killing it.

    ``finally`` blocks and context managers run, so that what was written stays whole.

    Args:
        then: the end of the line on standard error, "stopped by SIGTERM; ...": what the user can do next.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        fail(f"stopped by {signal.Signals(number).name}; {then}")
        sys.exit(EXIT_PREEMPTED)

    for number in STOPS:
        signal.signal(number, stop)
