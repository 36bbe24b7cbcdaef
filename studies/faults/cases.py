"""The faults that are tried: program, fault, moment, and the exit codes that the documentation promises."""

import random
import re
import signal
from dataclasses import dataclass

from studies.faults.disturb import (
    Clock,
    Damaged,
    Fault,
    FullDisk,
    ReadOnlyDisk,
    ReadOnlyFolder,
    Removed,
    SecondJob,
    Signal,
)
from studies.faults.moments import Lines, Moment, Share, Start, There

SEED = 0
KILL, TERM, INT, USR1 = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
LAST, PREVIOUS = "checkpoints/last.ckpt", "checkpoints/previous.ckpt"

STOPPED = {KILL: (-9,), TERM: (75,), USR1: (75,), INT: (130,)}
ONE_SENTENCE = (2,)  # a mistake that a person can mend
LOST_ANOTHER = tuple(c for c in range(-64, 256) if c not in (0, 75, 130))  # whatever says that it failed
FINISHED = (0,)


@dataclass(frozen=True)
class Case:
    """codes: with which the program may end; again: the second start; second: a second job in its folder. words:
    options of both starts.
    """

    program: str
    fault: Fault
    moment: Moment
    codes: tuple[int, ...]
    again: tuple[int, ...] = FINISHED
    words: tuple[str, ...] = ()
    note: str = ""
    second: int = 2

    @property
    def name(self) -> str:
        text = f"{self.program} {self.fault} {self.moment} {self.note}"
        return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_")


def _signal(program: str, number: signal.Signals, moment: Moment, to: str = "first") -> Case:
    codes = LOST_ANOTHER if (number, to) == (KILL, "second") else STOPPED[number]
    return Case(program, Signal(number, to), moment, codes)


def _random(program: str, numbers: list[signal.Signals], seed: str, to: str = "first") -> list[Case]:
    """At moments drawn evenly over the time that the program takes."""
    drawn = random.Random(f"{SEED} {seed}")
    return [_signal(program, number, Share(round(drawn.uniform(0.02, 0.95), 3)), to) for number in numbers]


def _train() -> list[Case]:
    name, drawn = "train", random.Random(f"{SEED} train")
    chosen = [(KILL, 3), (KILL, 15), (KILL, 37), (TERM, 1), (TERM, 21), (TERM, 40), (USR1, 10), (USR1, 26), (INT, 17)]
    disk = [Case(name, FullDisk(room), Start(), ONE_SENTENCE) for room in (64, 1200, 2100)]
    online = ("--wandb.mode=offline",)
    return [
        *(_signal(name, number, Lines(row, later=round(drawn.uniform(0, 0.1), 3))) for number, row in chosen),
        _signal(name, KILL, There(LAST)),
        _signal(name, KILL, There(PREVIOUS)),
        _signal(name, USR1, There("config.yaml")),
        *_random(name, [KILL, KILL, TERM, TERM, USR1, INT], name),
        *disk,
        Case(name, ReadOnlyDisk(), Start(), ONE_SENTENCE),
        Case(name, ReadOnlyFolder(), Lines(15), ONE_SENTENCE),
        Case(name, Removed("run", "run folder"), Lines(15), ONE_SENTENCE),
        Case(name, Removed("run/wandb", "W&B folder"), Lines(15), FINISHED, words=online),
        Case(name, Removed("data", "data folder"), Lines(15), FINISHED, note="data in memory"),
        Case(
            name,
            Removed("data", "data folder"),
            Lines(15),
            ONE_SENTENCE,
            words=("--data.memory_limit_mb=0",),
            note="data read from files",
        ),
        Case(name, Damaged("cut to half", (LAST,)), Lines(25), (-9,)),
        Case(name, Damaged("zeros in the middle", (LAST,)), Lines(35), (-9,)),
        Case(name, Damaged("empty", (LAST,)), Lines(25), (-9,)),
        Case(name, Damaged("cut to half", (LAST, PREVIOUS)), Lines(25), (-9,), again=ONE_SENTENCE),
        Case(name, Damaged("torn in its last line", ("metrics.csv",)), Lines(25), (-9,)),
        Case(name, Clock(-1), Lines(12), FINISHED),
        Case(name, Clock(-1, stop=True), Lines(12), (75,)),
        Case(name, Clock(400, stop=True), Lines(22), (75,)),
        Case(name, SecondJob(), Lines(12), FINISHED),
    ]


def _two_processes() -> list[Case]:
    name = "train, 2 processes"
    return [
        _signal(name, KILL, Lines(16)),
        _signal(name, KILL, Lines(16), "second"),
        _signal(name, KILL, Lines(33), "all"),
        _signal(name, TERM, Lines(12)),
        _signal(name, USR1, Lines(21), "second"),
        _signal(name, TERM, Lines(31), "all"),
        _signal(name, INT, Lines(8), "all"),
        *_random(name, [KILL, TERM, USR1], name, "all"),
        Case(name, FullDisk(1200), Start(), ONE_SENTENCE),
        Case(name, Damaged("cut to half", (LAST,)), Lines(25), (-9,)),
        Case(name, SecondJob(), Lines(12), FINISHED),
    ]


def _evaluate() -> list[Case]:
    name, rows = "evaluate", [(KILL, 1), (KILL, 35), (KILL, 57), (TERM, 33), (USR1, 45), (INT, 40)]
    return [
        *(_signal(name, number, Lines(row)) for number, row in rows),
        *_random(name, [KILL, TERM], name),
        *(Case(name, FullDisk(room), Start(), ONE_SENTENCE) for room in (16, 128, 300)),
        Case(name, ReadOnlyDisk(), Start(), ONE_SENTENCE),
        Case(name, Removed("out", "output folder"), Lines(40), ONE_SENTENCE),
        Case(name, Removed("data", "data folder"), Lines(40), FINISHED, note="data in memory"),
        Case(name, Damaged("torn in its last line", ("rows.csv",)), Lines(40), (-9,)),
        Case(name, Clock(-1, stop=True), Lines(40), (75,)),
        Case(name, SecondJob(), Lines(40), FINISHED),
    ]


def _restore() -> list[Case]:
    name, output = "restore", ""
    return [
        *(_signal(name, number, There(output, 3.0)) for number in (KILL, TERM, USR1, INT)),
        *_random(name, [KILL, TERM], name),
        *(Case(name, FullDisk(room), Start(), ONE_SENTENCE) for room in (4, 16, 48)),
        Case(name, ReadOnlyDisk(), Start(), ONE_SENTENCE),
        Case(name, Removed("out", "output folder"), There(output, 3.0), FINISHED),
        Case(name, SecondJob(), There(output, 3.0), FINISHED),
    ]


def _sweep() -> list[Case]:
    name, first, second = "sweep", "v/metrics.csv", "epsilon/metrics.csv"
    return [
        _signal(name, KILL, Lines(8, first)),
        _signal(name, TERM, Lines(8, second)),
        _signal(name, USR1, Lines(15, first)),
        _signal(name, INT, Lines(5, second)),
        *_random(name, [TERM], name),
        Case(name, FullDisk(1200), Start(), (1, 2)),  # a run failed, or its state could not be written
        Case(name, Removed("runs/v", "folder of the finished run"), Lines(5, second), FINISHED),
        Case(name, SecondJob(), Lines(8, first), FINISHED, second=1),  # it does what the first job does not run
    ]


def cases() -> list[Case]:
    """All of them, in the order of the table; names are unique."""
    found = [*_train(), *_two_processes(), *_evaluate(), *_restore(), *_sweep()]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return found
