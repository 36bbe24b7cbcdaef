"""The rows of faults as a table of Markdown, and into the page of results."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from studies.faults.one_case import Row

HEAD = ("program", "fault", "moment", "exit code", "then", "done again", "equal", "verdict")
KINDS = ("weights", "rows", "log", "pictures")


def markdown(rows: Sequence[Row]) -> str:
    """A line for each fault, and how many there are."""
    verdicts = Counter("skipped" if row.verdict.startswith("skipped") else row.verdict == "ok" for row in rows)
    tried = len(rows) - verdicts["skipped"]
    lines = [f"{tried} faults were tried, {verdicts['skipped']} skipped; {verdicts[True]} ended as they should.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "| " + " | ".join("---" for _ in HEAD) + " |"]
    for row in rows:
        cells = row.cells()
        equal = ", ".join(kind for kind in KINDS if cells[kind] == "equal")
        again = f"{row.lost} of {row.reached}" if row.lost and row.reached else ""
        values = (row.program, row.fault, row.moment, row.code, row.code_again, again, equal, row.verdict)
        lines.append("| " + " | ".join(value.replace("|", "/") for value in values) + " |")
    return "\n".join(lines) + "\n"


def put_into(page: Path, name: str, table: str) -> None:
    """Between the marks ``<!-- name -->`` and ``<!-- end of name -->`` of a page; what a person wrote around them
    stays. UserError where it has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise UserError(
            f"--page '{page}' lacks the marks '{begin}' and '{end}', between which the table goes: add them"
        )
    write_atomically(page, f"{before}{begin}\n\n{table}\n{end}{after}")
