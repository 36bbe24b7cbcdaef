"""studies.faults: the list of faults, what each does, and the verdict on a program that keeps or breaks its promise."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from studies.faults.__main__ import chosen, read, write
from studies.faults.cases import Case, cases
from studies.faults.disturb import Damaged, Removed, SecondJob, Signal
from studies.faults.moments import Lines, Share, lines, processes_of
from studies.faults.one_case import Row, try_case
from studies.faults.programs import Program
from studies.faults.table import markdown
from studies.faults.twins import twin_of

TERM = Signal(signal.SIGTERM)

#: 30 rows, one after the other; goes on after those that are there. What it makes of SIGTERM and of a second job are
#: filled in.
SCRIPT = """
import fcntl, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1]) / "out"
out.mkdir(exist_ok=True)
lock = open(out / ".lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(SECOND)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
rows = out / "rows.csv"
done = rows.read_text().splitlines()[1:] if rows.exists() else []
if done:
    print(f"going on in '{out}': {len(done)} samples are there already")
with rows.open("a") as file:
    if not done:
        file.write("k\\n")
    for k in range(len(done), 30):
        file.write(f"{k}\\n")
        file.flush()
        time.sleep(0.02)
"""


def program(folder: Path, *, stopped: int = 75, second: int = 2) -> Program:
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("STOPPED", str(stopped)).replace("SECOND", str(second)))
    result = lambda at: {"rows": {"rows.csv": (at / "out/rows.csv").read_text()}}  # noqa: E731
    return Program("evaluate", lambda at: [str(script), f"{at}/"], "out", result, "rows.csv")


def tried(folder: Path, case: Case, **options: int) -> Row:
    (folder / "inputs/data").mkdir(parents=True)
    shown = program(folder, **options)
    return try_case(case, shown, folder / "work" / case.name, twin_of(shown, folder))


def test_there_are_sixty_faults_and_more_of_every_kind():
    found = cases()
    assert len(found) >= 60
    assert {case.program for case in found} == {"train", "train, 2 processes", "evaluate", "restore", "sweep"}
    assert len({type(case.fault) for case in found}) == 8
    assert sum(isinstance(case.moment, Share) for case in found) >= 10, "at moments that are drawn"
    assert [case.name for case in found] == [case.name for case in cases()], "the same ones each time"
    with pytest.raises(UserError, match="--only 'nix'"):
        chosen("nix")


def test_a_program_that_keeps_its_promise(tmp_path):
    row = tried(tmp_path, Case("evaluate", TERM, Lines(5), (75,)))
    assert (row.verdict, row.code, row.code_again, row.rows, row.lost) == ("ok", "75", "0", "equal", "0")
    assert int(row.reached) >= 5 and not processes_of(tmp_path)


def test_one_that_dies_of_the_signal_does_not(tmp_path):
    row = tried(tmp_path, Case("evaluate", TERM, Lines(5), (75,)), stopped=1)
    assert row.verdict == "exit code 1" and row.rows == "equal"


@pytest.mark.parametrize("second", [2, 0])
def test_a_second_job_has_to_be_refused(second, tmp_path):
    row = tried(tmp_path, Case("evaluate", SecondJob(), Lines(5), (0,)), second=second)
    assert row.verdict == ("ok" if second == 2 else "the second job ended with 0")


def test_rows_that_differ_are_seen(tmp_path):
    """The last row of a program that was killed lacks its end, and this one does not mend it."""
    fault = replace(Damaged("torn in its last line", ("rows.csv",)))
    assert "rows differ" in tried(tmp_path, Case("evaluate", fault, Lines(5), (-9,))).verdict


def test_a_fault_that_cannot_be_done_is_skipped_with_the_reason(tmp_path):
    class Never(Removed):
        def missing(self) -> str | None:
            return "no reason"

    row = tried(tmp_path, Case("evaluate", Never("out", "output"), Lines(1), (0,)))
    assert row.verdict == "skipped: no reason"
    path = tmp_path / "faults.csv"
    write(path, {row.name: row})
    assert read(path) == {row.name: row}
    assert "0 faults were tried, 1 skipped" in markdown([row]) and lines(path) == 1
    assert sys.executable not in markdown([row])
