"""Runs the combinations of a sweep here, several at once; the same call again goes on."""

import ctypes
import fcntl
import fnmatch
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from common.errors import EXIT_PREEMPTED, UserError
from common.files import require_writable_folder
from sweeps.expand import Combination, Sweep
from sweeps.state import Places

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def command_of(sweep: Sweep, combination: Combination, places: Places) -> list[str]:
    """The whole command: this Python, the script, its arguments, the folder of this combination, and its group
    in W&B.
    """
    script = Path(combination.words[0]).name
    extra = [f"--output={places.run(combination)}"]
    if script == "train.py":
        extra = [f"--run={places.run(combination)}", f"--wandb.group={sweep.name}", "--wandb.tags=[sweep]"]
        if sweep.project:
            extra.append(f"--wandb.project={sweep.project}")
    return [sys.executable, *combination.words, *extra]


def selected(sweep: Sweep, *, only: str | None = None, number: int | None = None) -> list[Combination]:
    """The combinations whose name matches a pattern (``*`` and ``?``; without any: names that contain it), or the one
    with a number; UserError for none.
    """
    found = list(sweep.combinations)
    if number is not None:
        found = [c for c in found if c.number == number]
    if only is not None:
        pattern = only if any(c in only for c in "*?[") else f"*{only}*"
        found = [c for c in found if fnmatch.fnmatchcase(c.name, pattern)]
    if not found:
        wanted = f"number {number}" if number is not None else f"'{only}'"
        raise UserError(
            f"no combination of '{sweep.path}' is {wanted}: python sweep.py list {sweep.path} shows all"
            f" {len(sweep.combinations)}"
        )
    return found


@dataclass
class _Running:
    combination: Combination
    process: subprocess.Popen
    began: float


class Runner:
    """Each combination is a process of its own with its own run folder, so that a stopped one goes on and one that
    fails harms no other.

    jobs: processes at once. threads: OMP_NUM_THREADS of each. say: where progress lines go. every_seconds: between two
    of them.
    """

    def __init__(
        self,
        sweep: Sweep,
        places: Places,
        *,
        jobs: int = 1,
        threads: int | None = None,
        say: Callable[[str], None] = print,
        every_seconds: float = 60,
    ) -> None:
        self.sweep, self.places, self.jobs, self.say, self.every_seconds = sweep, places, jobs, say, every_seconds
        self.threads = threads or max(1, _cores() // jobs)
        self._signal: int | None = None
        self._running: list[_Running] = []
        self._claims: dict[str, IO[str]] = {}  # open files, whose locks the kernel frees however this process ends
        self._seconds: list[float] = []  # of what this call has finished

    def run(self, combinations: Sequence[Combination]) -> int:
        """The exit code: 0, 1 where something failed or is run by another job (the others have run), 75 after SIGTERM
        or SIGUSR1, 130 after Ctrl-C.
        """
        require_writable_folder(self.places.output / ".sweep", "output")
        finished = [c for c in combinations if self.places.state(c).status == "finished"]
        waiting = [c for c in combinations if c not in finished]
        if finished:
            self.say(f"{len(finished)} of {len(combinations)} are finished already")
        previous = {s: signal.signal(s, self._stop) for s in SIGNALS}
        failed: list[Combination] = []
        interrupted: list[Combination] = []
        elsewhere: list[Combination] = []
        last = time.monotonic()
        try:
            while self._running or (waiting and self._signal is None):
                while waiting and len(self._running) < self.jobs and self._signal is None:
                    following = waiting.pop(0)
                    if not self._claim(following):
                        elsewhere.append(following)
                    elif self.places.state(following).status == "finished":  # by another job, meanwhile
                        finished.append(following)
                    else:
                        self._start(following)
                time.sleep(0.05)
                for each in [r for r in self._running if r.process.poll() is not None]:
                    status = self._end(each)
                    {"failed": failed, "interrupted": interrupted, "finished": finished}[status].append(
                        each.combination
                    )
                    took = _clock(time.monotonic() - each.began)
                    self.say(
                        f"{each.combination.name}: {status} after"
                        f" {took}{self._outlook(len(finished), waiting, len(combinations))}"
                    )
                if time.monotonic() - last > self.every_seconds:
                    last = time.monotonic()
                    for each in self._running:
                        self.say(f"{each.combination.name}: {_last_line(self.places.log(each.combination))}")
        finally:
            for each in self._running:
                each.process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)
        for each in failed:
            self.say(f"failed: {each.name}: {_last_line(self.places.log(each))} (all of it: {self.places.log(each)})")
        for each in elsewhere:
            self.say(f"{each.name}: is run by another job, which this one leaves it to")
        if self._signal is not None or interrupted:
            self.say(
                f"stopped with {len(finished)} of {len(combinations)} finished; run the same command again to go on"
            )
            return 130 if self._signal == signal.SIGINT else EXIT_PREEMPTED
        return 1 if failed or elsewhere else 0

    def _claim(self, combination: Combination) -> bool:
        """Hold a combination until it has ended; False where another job has it. A file system without locks holds
        nothing, and the run folder itself refuses a second process.
        """
        file = open(self.places.log(combination).with_suffix(".lock"), "w")  # noqa: SIM115  (held)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:
            pass
        self._claims[combination.name] = file
        return True

    def _start(self, combination: Combination) -> None:
        command = command_of(self.sweep, combination, self.places)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1"}
        environment |= {"WANDB_ENTITY": self.sweep.entity} if self.sweep.entity else {}
        with open(self.places.log(combination), "ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            # A session of its own: a terminal's Ctrl-C reaches it once, through the handler below.
            how = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            process = subprocess.Popen(command, env=environment, preexec_fn=_stop_with_parent if _LIBC else None, **how)
        self._running.append(_Running(combination, process, time.monotonic()))
        if self._signal is not None:  # it came while the process was being made
            process.terminate()

    def _end(self, each: _Running) -> str:
        self._running.remove(each)
        code, seconds = each.process.returncode, time.monotonic() - each.began
        stopped = code == EXIT_PREEMPTED or (self._signal is not None and code != 0)
        status = "finished" if code == 0 else "interrupted" if stopped else "failed"
        if status == "finished":
            self._seconds.append(seconds)
        self.places.write(each.combination, status, seconds)
        self._claims.pop(each.combination.name).close()
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        for each in self._running:
            each.process.terminate()

    def _outlook(self, finished: int, waiting: list[Combination], total: int) -> str:
        text = f"; {finished} of {total} finished"
        if not self._seconds or self._signal is not None or not (waiting or self._running):
            return text
        mean, now = sum(self._seconds) / len(self._seconds), time.monotonic()
        left = mean * len(waiting) + sum(max(0.0, mean - (now - r.began)) for r in self._running)
        return f"{text}, about {_clock(left / self.jobs)} left"


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _stop_with_parent() -> None:
    """In the child: SIGTERM when this process dies, even of SIGKILL, so that no run goes on unseen and holds its
    folder.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _last_line(log: Path) -> str:
    attempt = log.read_text(errors="replace").rpartition("\n$ ")[2]
    lines = [line for line in attempt.splitlines()[1:] if line.strip()]
    return (
        next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])[:200]
        if lines
        else "nothing printed yet"
    )
