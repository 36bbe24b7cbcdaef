"""Drills on a real SLURM of one machine: the shipped job scripts, unedited, lose their nodes in every way, and end as
if nothing was.

    PYTHONPATH=.:tests python -m tests.cluster.drills --output results/faults
    PYTHONPATH=.:tests python -m tests.cluster.drills --output results/faults --only '*time limit*'

As root, with Debian's packages slurmctld, slurmd, slurm-client and munge; nothing outside of OUTPUT and a temporary
folder is changed. The undisturbed runs are those of studies.faults in the same OUTPUT. OUTPUT/drills.csv has a row for
each drill, written as it ends, OUTPUT/drills.md the table; the same command again does what is missing.
"""

import argparse
import contextlib
import csv
import fnmatch
import io
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cluster.drill_events import CLOSE, DRILLS, TWO, Drill, array
from cluster.one_machine import OneMachine, missing, one_machine

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from studies.faults.moments import wait_until_ended
from studies.faults.programs import (
    INPUTS,
    Result,
    evaluation_result,
    programs,
    sweep_result,
    training_result,
    write_inputs,
)
from studies.faults.twins import twin_of


@dataclass(frozen=True)
class Row:
    """A line of drills.csv. starts: of the job, by SLURM and by hand; ended: how it ended, state and exit code."""

    name: str
    script: str
    starts: str
    ended: str
    equal: str
    seconds: str
    verdict: str


def differing(drill: Drill, twin: str, expected: Result) -> list[str]:
    """The kinds of results that are not those of the undisturbed program."""
    of = {"evaluate": evaluation_result, "sweep": sweep_result}.get(twin, training_result)
    found = json.loads(json.dumps(of(drill.run)))
    if twin == CLOSE:
        pairs = zip(found["log"]["metrics.csv"], expected["log"]["metrics.csv"], strict=True)
        near = all(a["step"] == b["step"] and _near(a["train/loss"], b["train/loss"]) for a, b in pairs)
        return [] if near else ["log to 3 digits"]
    return [kind for kind in expected if found[kind] != expected[kind]]


def _near(a: str, b: str) -> bool:
    return a == b or abs(float(a) - float(b)) <= 1e-3 * abs(float(b))


def do(name: str, cluster: OneMachine, folder: Path, expected: Result) -> Row:
    happen, script, twin = DRILLS[name]
    begun = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    drill = Drill(cluster, folder)
    try:
        happen(drill)
        several = script in ("sweep.py slurm", "evaluate_array.sh")
        jobs = array(drill) if several else [drill.finish()]
        starts = drill.submitted * len(jobs) + sum(int(job.get("Restarts", "0")) for job in jobs)
        ended = ", ".join(dict.fromkeys(f"{job['JobState']} {job['ExitCode']}" for job in jobs))
        wrong = [] if ended == "COMPLETED 0:0" else [ended]
        wrong += [f"{kind} differ" for kind in differing(drill, twin, expected)]
        equal = "log to 3 digits" if twin == CLOSE else ", ".join(expected)
    except (UserError, AssertionError, KeyError, IndexError) as error:
        wrong, starts, ended, equal = [" ".join(str(error).split())[-600:]], drill.submitted, "", ""
    finally:
        for command in (["scancel", "--user=root"], ["scontrol", "update", "NodeName=n1,n2", "State=RESUME"]):
            with contextlib.suppress(AssertionError):
                cluster(*command)
        wait_until_ended(folder, 30)
    seconds = f"{time.monotonic() - begun:.0f}"
    return Row(name, script, str(starts), ended, "" if wrong else equal, seconds, "; ".join(wrong) or "ok")


def markdown(rows: list[Row]) -> str:
    good = sum(row.verdict == "ok" for row in rows)
    lines = [f"{len(rows)} drills, {good} ended as they should.", ""]
    lines += ["| drill | job script | starts | ended | equal | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    shown = ((r.name, r.script, r.starts, r.ended, r.equal, r.verdict) for r in rows)
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in shown)]) + "\n"


def main() -> int:
    parser = Parser(
        prog="python -m tests.cluster.drills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("results/faults"), metavar="DIR", help="results/faults")
    parser.add_argument("--only", metavar="PATTERN", help="those whose name matches, with * and ?; they are done again")
    args = parser.parse_args()
    if (why := missing()) is not None:
        raise UserError(f"there can be no SLURM here: {why}")
    folder = require_writable_folder(args.output, "--output").resolve()
    if not (folder / INPUTS).exists():
        write_inputs(folder / INPUTS)
    path, rows = folder / "drills.csv", {}
    if path.exists():
        with path.open(newline="") as file:
            rows = {cells["name"]: Row(**cells) for cells in csv.DictReader(file)}
    twins = {name: twin_of(program, folder) for name, program in programs(folder / INPUTS).items() if name != "restore"}
    with one_machine() as cluster:
        for name, (_, _, twin) in DRILLS.items():
            done = args.only is None and name in rows and rows[name].verdict == "ok"
            if done or not fnmatch.fnmatchcase(name, args.only or "*"):
                continue
            at = folder / "drills" / re.sub("[^a-z0-9]+", "_", name.lower())
            rows[name] = do(name, cluster, at, twins[TWO if twin == CLOSE else twin].result)
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=[f.name for f in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(rows[n]) for n in DRILLS if n in rows)
            write_atomically(path, text.getvalue())
            write_atomically(folder / "drills.md", markdown([rows[n] for n in DRILLS if n in rows]))
            print(f"{name}: {rows[name].verdict} ({rows[name].seconds} s)", flush=True)
    return int(any(row.verdict != "ok" for row in rows.values()))


if __name__ == "__main__":
    run_cli(main)
