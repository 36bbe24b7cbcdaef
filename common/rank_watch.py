"""Which of several processes that work in step has stopped: each tells the others that it lives and where it is."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import EXIT_LOST, fail
from common.other_processes import lives, process_space, within
from common.private_names import main_thread_place

EVERY = 3.0  # seconds between two beats
GRACE = 10.0  # after one process has ended with an error, for the others to come to theirs

#: Places in a step, in their order; a process that is anywhere else may take as long as it likes.
DATA, FORWARD, BACKWARD, OPTIMISER = 0, 1, 2, 3
PLACES = ("waiting for its data", "in the forward pass", "in the backward pass", "in the optimiser")
ELSEWHERE, LEFT, FAILED = 10, 11, 12

OF_ITS_OWN = "ended with an error of its own, see its message"


@dataclass(frozen=True)
class Beat:
    """What a process says of itself. count: of beats, so that a new one differs; batches, place: where in its work;
    step: the optimiser step; line: of the program, for people; told: it knows that another one has failed.
    """

    count: int = 0
    batches: int = 0
    place: int = ELSEWHERE
    step: int = 0
    line: str = ""
    told: bool = False

    @property
    def position(self) -> tuple[int, int]:
        return self.batches, self.place


@dataclass
class Seen:
    """The newest beat of a process, when it came, and since when the position in it is as it is."""

    beat: Beat
    heard: float
    moved: float


def verdict(
    seen: Sequence[Seen], now: float, *, patience: float, longest: float = 0.0, answered: float | None = None
) -> tuple[list[int], str] | None:
    """(ranks, what is wrong with them) where somebody is lost, else None.

    Lost is who has not been heard of for `patience` seconds, and who has ended with an error; hung is who is least far
    in a step, where that has not changed for `patience` seconds and ten times the longest step, or for five times as
    long where data are read.

    Args:
        seen: of every rank.
        now: seconds, of the same clock as in `seen`.
        longest: seconds of the longest step so far.
        answered: when the store, which the first process keeps, answered last.
    """
    if answered is not None and now - answered > patience:
        return [0], f"has not answered for {now - answered:.0f} s"
    failed = [r for r, s in enumerate(seen) if s.beat.place == FAILED and now - s.heard > GRACE]
    if failed:
        return failed, OF_ITS_OWN
    running = {r: s for r, s in enumerate(seen) if s.beat.place not in (LEFT, FAILED)}
    silent = [r for r, s in running.items() if now - s.heard > patience]
    if silent:
        since = max(now - seen[r].heard for r in silent)
        return silent, f"has not been heard of for {since:.0f} s, last at step {seen[silent[0]].beat.step}"
    if not running:
        return None
    least = min(s.beat.position for s in running.values())
    behind = [r for r, s in running.items() if s.beat.position == least]
    since = min(now - seen[r].moved for r in behind)
    place = least[1]
    if place in (ELSEWHERE, LEFT, FAILED):
        return None
    limit = max(patience, 10 * longest) * (5 if place == DATA else 1)
    if since <= limit:
        return None
    where = ", ".join(dict.fromkeys(seen[r].beat.line for r in behind))
    return behind, f"has been {PLACES[place]} of step {seen[behind[0]].beat.step} for {since:.0f} s ({where})"


class RankWatch:
    """Beats of this process in a store that all share, and an eye on those of the others.

    Two threads: one talks with the store, which may not answer any more; one judges, and calls `on_lost` once.

    Args:
        store: of torch.distributed; the process that keeps it is rank 0.
        patience: seconds without a word after which a process is lost.
        on_lost: called with the message, from the second thread; the default ends this process, and those that are lost
            where they are on this machine.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world: int,
        *,
        patience: float = 45.0,
        on_lost: Callable[[str, list[int]], None] | None = None,
    ) -> None:
        self.store, self.rank, self.world, self.patience = store, rank, world, patience
        self._on_lost = on_lost or self._end
        self._count, self._told = 0, False
        self._at = (0, ELSEWHERE, 0)  # batches, place, step: written by the main thread alone
        self._longest, self._steps, self._began = 0.0, 0, 0.0
        self._stop = threading.Event()
        now = time.monotonic()
        self._seen, self._answered = [Seen(Beat(), now, now) for _ in range(world)], now
        self.who: dict[int, dict[str, Any]] = {}
        store.set(
            f"who/{rank}", json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "space": process_space()})
        )
        self._tell()

    def start(self) -> None:
        """When all processes have made theirs."""
        keys = [f"who/{r}" for r in range(self.world)]
        self.who = {r: json.loads(v) for r, v in enumerate(self.store.multi_get(keys))}
        now = time.monotonic()
        self._seen, self._answered = [Seen(Beat(), now, now) for _ in range(self.world)], now
        for run in (self._talk, self._judge):
            threading.Thread(target=run, daemon=True, name="rank watch").start()

    # Where this process is.

    def at(self, place: int, *, batch: bool = False, step: int = 0) -> None:
        """Note that the work has come to a place; `batch`: to a new batch. The first two steps, which compile and warm
        up, may take as long as they like.
        """
        now = time.monotonic()
        batches = self._at[0] + batch
        if batch:
            self._began = now
        if place == ELSEWHERE and self._began:
            self._steps, began, self._began = self._steps + 1, self._began, 0.0
            if self._steps > 2:
                self._longest = max(self._longest, now - began)
        if self._steps < 2:
            place = ELSEWHERE
        self._at = (batches, place, step)

    def leave(self, *, failed: bool = False) -> None:
        """This process ends its work: nobody waits for it any more. Failed: the others cannot go on; the first process,
        with which the store ends, stays until they know, or six seconds.
        """
        self._stop.set()
        self._at = (self._at[0], FAILED if failed else LEFT, self._at[2])
        within(1.0 if failed else 0.0, self._tell)
        if not failed:
            return
        end = time.monotonic() + 2 * EVERY
        while self.rank == 0 and time.monotonic() < end:
            beats, gone = self._beats(), self.gone()  # the store is here
            if all(b.told or b.place in (LEFT, FAILED) or r in gone for r, b in enumerate(beats)):
                return
            time.sleep(0.1)

    def gone(self) -> list[int]:
        """Ranks whose processes were on this machine and are no more."""
        return [r for r, who in self.who.items() if r != self.rank and self._is_here(who) and not lives(who["pid"])]

    def why_gone(self) -> tuple[list[int], str] | None:
        """(ranks, what they said of it) for whoever knows that somebody is gone and not who: those that have left with
        a word, else those whose processes are no more; None where that cannot be told.
        """
        within(2.0, self._look)  # the newest word: it may have come a moment before
        for place, what in ((FAILED, OF_ITS_OWN), (LEFT, "was stopped, see its message")):
            if ranks := [r for r, s in enumerate(self._seen) if s.beat.place == place and r != self.rank]:
                return ranks, what
        gone = self.gone()
        return (gone, "has ended (killed or out of memory, unless it said why)") if gone else None

    def wait(self) -> None:
        """For whoever knows that somebody is gone and not who: until the watch has found out, and ended the process."""
        if self._stop.wait(self.patience + 2 * EVERY):
            time.sleep(2.0)  # it is about to

    def end_for(self, ranks: list[int], what: str) -> None:
        """Say who is lost, and end."""
        self._stop.set()
        self._on_lost(self.message(ranks, what), ranks)

    def message(self, ranks: list[int], what: str) -> str:
        """One sentence for the user."""
        names = ", ".join(f"{r} ({self.who[r]['host']}, process {self.who[r]['pid']})" for r in ranks if r in self.who)
        return (
            f"rank {names} of {self.world} {what}: this job ends; the same command again goes on from the last"
            " checkpoint"
        )

    # The threads.

    def _tell(self) -> None:
        self._count += 1
        batches, place, step = self._at
        beat = Beat(self._count, batches, place, step, main_thread_place(), self._told)
        self.store.set(f"beat/{self.rank}", json.dumps(vars(beat)))

    def _beats(self) -> list[Beat]:
        return [Beat(**json.loads(v)) for v in self.store.multi_get([f"beat/{r}" for r in range(self.world)])]

    def _look(self) -> None:
        beats, now = self._beats(), time.monotonic()
        for seen, beat in zip(self._seen, beats, strict=True):
            if beat.count != seen.beat.count:
                seen.heard = now
            if beat.position != seen.beat.position:
                seen.moved = now
            seen.beat = beat
        self._answered = now

    def _talk(self) -> None:
        while not self._stop.is_set():
            try:
                self._tell()
                self._look()
                if not self._told and any(s.beat.place == FAILED for s in self._seen):
                    self._told = True
                    self._tell()  # it waits for that
            except Exception:  # of the store's process: judged by when it answered last
                self._stop.wait(1.0)
                continue
            self._stop.wait(min(EVERY, self.patience / 4))

    def _judge(self) -> None:
        looked, pause = time.monotonic(), min(1.0, self.patience / 4)
        while not self._stop.wait(pause):
            now = time.monotonic()
            if now - looked > max(self.patience / 3, pause + EVERY):
                self._forget(now - looked)
            looked = now
            found = verdict(
                self._seen,
                now,
                patience=self.patience,
                longest=self._longest,
                answered=self._answered if self.rank else None,
            )
            if found is not None:
                self.end_for(*found)
                return

    def _forget(self, seconds: float) -> None:
        """This process stood still for so long (a suspended job, a machine that slept), and so may have the others."""
        self._answered += seconds
        for seen in self._seen:
            seen.heard, seen.moved = seen.heard + seconds, seen.moved + seconds

    # The end.

    def _end(self, message: str, ranks: list[int]) -> None:
        fail(message)
        if self.rank in ranks:
            time.sleep(min(2 * EVERY, self.patience / 2))  # until the others have found out as well
        for rank in ranks:
            who = self.who.get(rank)
            if who and rank != self.rank and self._is_here(who) and self._seen[rank].beat.place not in (LEFT, FAILED):
                with contextlib.suppress(OSError):
                    os.kill(who["pid"], signal.SIGKILL)  # it may hold the device, and nobody else ends it
        sys.stdout.flush()
        os._exit(EXIT_LOST)

    def _is_here(self, who: dict[str, Any]) -> bool:
        return who["host"] == socket.gethostname() and who["space"] == process_space()
