"""Faults: every program of this project is disturbed, then given the same command again, and compared with a run that
was left alone.

    python -m studies.faults --output results/faults                  # all of them; goes on where it was stopped
    python -m studies.faults --output results/faults --only 'train*clock*'
    python -m studies.faults --list

Kills, signals, full disks, folders that become read-only or are removed, damaged checkpoints, clocks that jump, two
jobs in one folder: at chosen moments and at moments that are drawn (seeded). Programs are tiny: starting them takes
most of the time, about 10 seconds of one core for a start. OUTPUT/faults.csv has a row for each fault, written as it
ends; OUTPUT/faults.md the table. Small disks, read-only folders and clocks need root, and libfaketime; else those
faults are skipped, which the table says.
"""

import argparse
import csv
import fnmatch
import io
import shutil
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from studies.faults.cases import Case, cases
from studies.faults.one_case import Row, try_case
from studies.faults.programs import INPUTS, programs, write_inputs
from studies.faults.table import markdown, put_into
from studies.faults.twins import twin_of
from studies.faults.warm import Warm


def read(path: Path) -> dict[str, Row]:
    """Of a faults.csv, by name."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {cells["name"]: Row(**cells) for cells in csv.DictReader(file)}


def write(path: Path, rows: dict[str, Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=Row.names(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.cells() for row in rows.values())
    write_atomically(path, text.getvalue())


def chosen(only: str | None) -> list[Case]:
    """Those whose name matches; UserError for none."""
    found = [case for case in cases() if only is None or fnmatch.fnmatchcase(case.name, only)]
    if not found:
        raise UserError(f"--only '{only}' is the name of no fault: --list shows all")
    return found


def main() -> int:
    parser = Parser(
        prog="python -m studies.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("results/faults"), metavar="DIR", help="results/faults")
    parser.add_argument("--only", metavar="PATTERN", help="those whose name matches, with * and ?; they are done again")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at once (default: 1)")
    parser.add_argument(
        "--warm",
        action="store_true",
        help="programs that are disturbed later begin after their imports: a third of the time",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="tries nothing: puts the tables of OUTPUT between the marks of a page"
    )
    parser.add_argument("--list", action="store_true", help="names of all faults")
    args = parser.parse_args()
    wanted = chosen(args.only)
    if args.list:
        print(*(case.name for case in wanted), sep="\n")
        return 0
    folder = require_writable_folder(args.output, "--output").resolve()
    if not (folder / INPUTS).exists():
        write_inputs(folder / INPUTS)
    if args.page is not None:
        for name in ("faults", "drills"):
            if (table := folder / f"{name}.md").exists():
                put_into(args.page, name, table.read_text())
        return 0
    # A shell lets what it starts in the background ignore Ctrl-C, and that would be handed on to the programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    known = programs(folder / INPUTS)
    rows = read(folder / "faults.csv")
    order = {case.name: number for number, case in enumerate(cases())}
    needed = {case.program for case in wanted} | {"train"}
    twins = {name: twin_of(program, folder) for name, program in known.items() if name in needed}
    left = [
        case for case in wanted if args.only is not None or case.name not in rows or rows[case.name].verdict != "ok"
    ]
    turns = Counter[str]()
    left.sort(key=lambda case: (turns.update([case.program]), turns[case.program])[1])  # of all programs by turns
    warm = Warm() if args.warm else None
    with ThreadPoolExecutor(args.jobs) as pool:
        tried = {}
        for case in left:
            at, twin = folder / "work" / case.name, twins[case.program]
            tried[pool.submit(try_case, case, known[case.program], at, twin, warm)] = case
        for ended in as_completed(tried):
            case, row = tried[ended], ended.result()
            if row.verdict == "ok":
                shutil.rmtree(folder / "work" / case.name, ignore_errors=True)
            rows = {name: r for name, r in {**rows, case.name: row}.items() if name in order}
            rows = dict(sorted(rows.items(), key=lambda item: order[item[0]]))
            write(folder / "faults.csv", rows)
            write_atomically(folder / "faults.md", markdown(list(rows.values())))
            print(f"{case.name}: {row.verdict} ({row.seconds} s)", flush=True)
    if warm is not None:
        warm.close()
    print(folder / "faults.md")
    bad = [row for row in rows.values() if row.verdict != "ok" and not row.verdict.startswith("skipped")]
    return 1 if bad else 0


if __name__ == "__main__":
    run_cli(main)
