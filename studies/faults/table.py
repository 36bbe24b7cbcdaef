"""The rows of faults as a table of Markdown."""

from collections import Counter
from collections.abc import Sequence

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
