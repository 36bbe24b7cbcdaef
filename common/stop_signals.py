"""What an entry point does with TERM and USR1 before and outside of its own handling: says so, and exits 75."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from common.errors import EXIT_PREEMPTED, fail
from common.private_names import handlers_in

#: A cluster's "your time is over": SLURM sends either, a person's `kill` sends the first.
STOPS = (signal.SIGTERM, signal.SIGUSR1)
#: Seconds in which the program must have come to a signal. A rendezvous of several processes waits for half an hour
#: outside of Python, where no handler runs.
PATIENCE = 8.0

_asked: int | None = None
_told: int | None = None  # where the system writes the number of every signal that Python handles


class _Stop:
    """The handler."""

    def __init__(self, then: str) -> None:
        self.then, self.answered = then, False

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        global _asked
        del frame
        _asked, self.answered = number, True
        fail(f"stopped by {signal.Signals(number).name}; {self.then}")
        sys.exit(EXIT_PREEMPTED)


def answer_stop_signals(then: str = "run the same command again to go on") -> None:
    """The first statement of every entry point, before anything heavy is imported: from here on a signal to stop ends
    the program with exit code 75, which a launcher queues again, instead of killing it.

    ``finally`` blocks and context managers run, so that what was written stays whole; but where the program does not
    come to it within :data:`PATIENCE` seconds, it ends all the same.

    Args:
        then: the end of the line on standard error, "stopped by SIGTERM; ...": what the user can do next.
    """
    global _asked
    _asked, stop = None, _Stop(then)
    for number in STOPS:
        signal.signal(number, stop)
    _watch()


def ignore_stop_signals() -> None:
    """From here on the program is on its way out, and writes what there is: a second signal changes nothing."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def stopped_afterwards() -> Iterator[None]:
    """Inside, a signal to stop and Ctrl-C wait for the end of the block: for what is short, and half of it is worth
    nothing. A second Ctrl-C does not wait.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are no business of it
        yield
        return
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in told:
            raise KeyboardInterrupt
        told.append(number)

    before = {number: signal.signal(number, note) for number in (*STOPS, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in told[:1]:
        signal.raise_signal(number)


def leave_stop_signals_to_parent(number: int = 0) -> None:
    """The first thing in a process that works for another one: SLURM tells every process of a job step to stop, and the
    parent decides. A TERM of the parent itself ends the process as ever.

    Args:
        number: of the process; not needed, but a loader gives it.
    """
    del number
    if not hasattr(signal, "sigwaitinfo"):  # a system without it has no SLURM either
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True, name="stop signals").start()


def _end_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def asked_to_stop() -> int | None:
    """The signal that the handler has answered already: whoever runs on has lost the exit that it raised to a library
    that catches everything.
    """
    return _asked


def _watch() -> None:
    """Start the thread that sees signals which the main thread is too busy to handle; once in a process."""
    global _told
    if _told is not None:
        return
    heard, _told = os.pipe()
    os.set_blocking(_told, False)
    signal.set_wakeup_fd(_told, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # its signals are no business of this one
    threading.Thread(target=_end_who_does_not_answer, args=(heard,), daemon=True, name="stop signals").start()


def _end_who_does_not_answer(heard: int) -> None:
    while number := os.read(heard, 1):
        stop = _stop_for(number[0])
        if stop is None:
            continue
        select.select([], [], [], PATIENCE)  # unlike sleep reads no clock, which may jump
        if not stop.answered and _stop_for(number[0]) is stop:
            fail(f"stopped by {signal.Signals(number[0]).name} while waiting; {stop.then}")
            os._exit(EXIT_PREEMPTED)


def _stop_for(number: int) -> _Stop | None:
    """The handler, also behind Lightning's own, which waits for the other processes first: for those that were not
    told, in vain.
    """
    return next((h for h in handlers_in(signal.getsignal(number)) if isinstance(h, _Stop)), None)
