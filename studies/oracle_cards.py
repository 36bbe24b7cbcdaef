"""An oracle's card for every posterior method: python -m studies.oracle_cards [--methods dps,ddrm] [--output DIR]

Where data are Gaussian, or a mixture of two Gaussians, the posterior is a formula. Every method of restoration/ that
draws from a posterior, or is used as if it did, restores the same measurements there, at equal numbers of network
calls, and a page says how far its samples are from the posterior: DIR/NAME.md. The table over all of them is put into
DIR/index.md, between its marks, and every number into DIR/cards.csv, from which rows of methods that are not asked for
are kept. About two minutes of one core.
"""

import argparse
import csv
import io
import time
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, nearest, run_cli
from common.files import write_atomically
from inference.catalogue import catalogue
from restoration.base import Method
from studies.oracle.cases import CARDS
from studies.oracle.pages import card, overview
from studies.oracle.run import EXACT, Line, exact_lines, flow_difference, lines

BEGIN, END = "<!-- written by studies.oracle_cards -->", "<!-- end -->"


def read_lines(path: Path) -> list[Line]:
    """Of a cards.csv; none where there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Line.of(cells) for cells in csv.DictReader(file)]


def write_lines(path: Path, rows: list[Line]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0].cells()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.cells() for line in rows)
    write_atomically(path, text.getvalue())


def write_index(path: Path, table: str) -> None:
    """The table between the marks; what a person wrote around them stays."""
    page = path.read_text(encoding="utf-8") if path.exists() else f"# Oracle's cards\n\n{BEGIN}\n{END}\n"
    before, found, rest = page.partition(BEGIN)
    _, also, after = rest.partition(END)
    if not found or not also:
        raise UserError(f"{path} lacks the marks '{BEGIN}' and '{END}', between which the table goes: add them")
    write_atomically(path, f"{before}{BEGIN}\n\n{table}\n{END}{after}")


def main() -> None:
    parser = Parser(
        prog="python -m studies.oracle_cards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", metavar="NAMES", help="with commas between them (default: all)")
    parser.add_argument("--output", type=Path, default=Path("docs/oracle"), metavar="DIR", help="default: docs/oracle")
    args = parser.parse_args()
    chosen = list(CARDS) if args.methods is None else args.methods.split(",")
    for name in chosen:
        if name not in CARDS:
            raise UserError(f"--methods '{name}' has no card{nearest(name, CARDS)}; there are {', '.join(CARDS)}")
    args.output.mkdir(parents=True, exist_ok=True)
    table = args.output / "cards.csv"
    known = {EXACT: list(exact_lines())}
    for line in read_lines(table):
        if line.method not in (EXACT, *chosen):
            known.setdefault(line.method, []).append(line)
    classes = catalogue("restoration", Method)
    for name in chosen:
        begun = time.perf_counter()
        known[name] = list(lines(name))
        page = card(name, classes[name], known[name], flow_difference(name), known[EXACT])
        write_atomically(args.output / f"{name}.md", page)
        print(f"{args.output / name}.md  {time.perf_counter() - begun:.1f} s", flush=True)
    names = [name for name in CARDS if name in known]
    every = [line for name in (EXACT, *names) for line in known[name]]
    write_lines(table, every)
    write_index(args.output / "index.md", overview(every, names))
    print(args.output / "index.md")


if __name__ == "__main__":
    run_cli(main)
