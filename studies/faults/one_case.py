"""One fault, tried: the program, the moment, the fault, the same command again, and what is then equal."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from studies.faults.cases import Case
from studies.faults.disturb import Damaged
from studies.faults.moments import SESSIONS, Share, lines, wait_for, wait_until_ended
from studies.faults.programs import INTERVAL, Program, whole_command
from studies.faults.twins import Twin, start
from studies.faults.warm import Started, Warm

PATIENCE = 900.0
GONE_AFTER = 75.0  # seconds in which all processes of a program must have ended after the first of them
TRIES = 3


@dataclass(frozen=True)
class Row:
    """A line of faults.csv. reached: rows or steps that were written at the fault; lost: of those, what the second
    start does again. The kinds of results: "equal", "differ", or empty where the program has none. verdict: "ok", or
    what is wrong.
    """

    name: str
    program: str
    fault: str
    moment: str
    code: str
    said: str
    code_again: str
    reached: str
    lost: str
    weights: str
    rows: str
    log: str
    pictures: str
    seconds: str
    verdict: str

    def cells(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]


def try_case(case: Case, program: Program, folder: Path, twin: Twin, warm: Warm | None = None) -> Row:
    """The fault, in `folder`; `warm` starts what need not be disturbed while it starts.

    Where the moment comes too late, because the machine is quicker than it was, it is tried again earlier."""
    missing, begun = case.fault.missing(), time.monotonic()
    if missing is not None:
        return _row(case, verdict=f"skipped: {missing}")
    earlier = 1.0
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            row = _try(case, program, folder, twin, earlier, warm)
        finally:
            wait_until_ended(folder, 0)
            with contextlib.suppress(subprocess.CalledProcessError):
                case.fault.clean(folder, folder / program.output)
        if row is not None:
            return _with_seconds(row, time.monotonic() - begun)
        earlier *= 0.7
    return _row(case, verdict="the program had ended before the moment came")


def _try(case: Case, program: Program, folder: Path, twin: Twin, earlier: float, warm: Warm | None) -> Row | None:
    output = folder / program.output
    more = case.fault.prepare(folder, output)
    environment = {**program.environment(folder), **more}
    command = [*whole_command(program, folder), *case.words]
    said, told = folder / "said.txt", folder / "said_again.txt"
    (folder / "environment.json").write_text(json.dumps(environment))
    quick = warm if not isinstance(case.moment, Share) and not more and program.name != "sweep" else None
    process = _begin(quick, folder, command, environment, said)
    came = wait_for(case.moment, process, output, progress=program.progress, whole=earlier * twin.seconds)
    if not came and (isinstance(case.moment, Share) or process.poll() == 0):
        return None
    wrong = []
    if came:
        case.fault.strike(folder, output, process, command)
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return _row(case, said=_last_words(said), verdict=f"it did not end in {PATIENCE:.0f} s")
    if not wait_until_ended(folder, GONE_AFTER):
        wrong.append(f"a process was still there after {GONE_AFTER:.0f} s")
    words = said.read_text()
    reached = lines(output / program.progress) if program.progress else None
    if code not in case.codes:
        wrong.append(f"exit code {code}")
    if "Traceback" in words and code != 0 and not _may_have_a_trace(case):
        wrong.append("a stack trace")
    wrong += _second_job(folder, case.second)
    case.fault.mend(folder, output)

    again = warm if not more and program.name != "sweep" else None
    try:
        code_again = _begin(again, folder, command, environment, told).wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return _row(case, said=_last_words(said), verdict=f"the second start did not end in {PATIENCE:.0f} s")
    wait_until_ended(folder, GONE_AFTER)
    if code_again not in case.again:
        wrong.append(f"exit code {code_again} of the second start: {_last_words(told)}")
    lost = _lost(program, told.read_text(), reached)
    allowed = INTERVAL + 1 if program.name.startswith("train") else 0
    if isinstance(case.fault, Damaged):  # the checkpoint before is gone back to, or the torn row is made again
        allowed += INTERVAL + 1 if program.name.startswith("train") else 1
    if lost is not None and lost > allowed and 2 not in (code, code_again):
        wrong.append(f"{lost} lost")
    same: dict[str, str] = {}
    if code_again == 0:
        found = program.result(folder)
        same = {kind: "equal" if found[kind] == twin.result[kind] else "differ" for kind in twin.result}
        wrong += [f"{kind} differ" for kind, value in same.items() if value != "equal"]
    elif case.again == (0,):
        same = dict.fromkeys(twin.result, "none")
    return _row(
        case,
        code=str(code),
        said=_last_words(said),
        code_again=str(code_again),
        reached="" if reached is None else str(reached),
        lost="" if lost is None else str(lost),
        verdict="; ".join(wrong) or "ok",
        **same,
    )


def _begin(
    warm: Warm | None, folder: Path, command: list[str], environment: dict[str, str], said: Path
) -> subprocess.Popen | Started:
    if warm is None:
        return start(command, environment, said)
    process = warm.start(command[1:], environment, said)
    SESSIONS.setdefault(folder, set()).add(process.pid)
    return process


def _row(case: Case, **cells: str) -> Row:
    fixed = {"name": case.name, "program": case.program, "moment": str(case.moment)}
    fault = f"{case.fault}{f' ({case.note})' if case.note else ''}"
    return Row(**{**dict.fromkeys(Row.names(), ""), **fixed, "fault": fault, **cells})


def _with_seconds(row: Row, seconds: float) -> Row:
    return Row(**{**row.cells(), "seconds": f"{seconds:.0f}"})


def _may_have_a_trace(case: Case) -> bool:
    """One of two processes was killed: the other one may say what it was waiting for."""
    killed = isinstance(case.fault, Damaged) or getattr(case.fault, "number", None) == signal.SIGKILL
    return killed and "2 processes" in case.program


def _second_job(folder: Path, expected: int) -> list[str]:
    """What is wrong with the second job, where there was one: it has to be refused in one sentence."""
    path = folder / "second_code"
    if not path.exists():
        return []
    words, code = (folder / "second.txt").read_text(), path.read_text()
    return [] if code == str(expected) and "Traceback" not in words else [f"the second job ended with {code}"]


def _last_words(path: Path) -> str:
    """The line that says why it ended."""
    found = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    for begins in ("error: ", "stopped at step", "stopped with", "note: dip: interrupted"):
        if chosen := [line for line in found if line.startswith(begins)]:
            return chosen[-1]
    return ""


def _lost(program: Program, words: str, reached: int | None) -> int | None:
    """Rows of the first start that the second one made again; None where it cannot be told."""
    if reached is None:
        return None
    if program.name.startswith("train"):
        step = re.search(r"continuing '.*' at step (\d+)", words)
        finished = re.search(r"is finished: (\d+) steps", words)
        found = step or finished
        kept = int(found[1]) if found else 0
        return max(0, reached - kept - kept // INTERVAL)  # a validation has a row of its own
    kept = re.search(r"going on in '.*': (\d+) samples", words)
    if "everything is done already" in words:
        return 0
    return reached - int(kept[1]) if kept else reached
