"""What --dry_run shows: which method cannot do which task and why, and what the others cost."""

from collections.abc import Sequence

from rich.table import Table

from evaluation.cells import Cell
from evaluation.progress import duration


def refusal_table(cells: Sequence[Cell]) -> Table | None:
    """Method, tasks and reason of what cannot work, one line for each reason of a method; None where all can."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.refusal is not None:
            reasons.setdefault((cell.method, cell.refusal), []).append(cell.task)
    if not reasons:
        return None
    bad = sum(len(tasks) for tasks in reasons.values())
    table = Table(title=f"{bad} of {len(cells)} cells cannot work", title_justify="left")
    for name in ("method", "tasks", "why not"):
        table.add_column(name, justify="left", overflow="fold")
    for (method, reason), tasks in reasons.items():
        table.add_row(method, ", ".join(tasks), reason)
    return table


def all_calls(cells: Sequence[Cell]) -> str:
    """How many calls of a network the cells take together, known without timing anything."""
    calls = sum(cell.calls for cell in cells)
    back = sum(cell.images * cell.num_samples * cell.backwards for cell in cells if not cell.refusal)
    through = f", {back:,} of them gone through backwards too" if back else ""
    return f"{len(cells)} cells: {calls:,} network calls of one image are left{through}"


def cost_table(cells: Sequence[Cell], devices: int) -> Table:
    """Images, samples, calls and estimated time of every cell; one that cannot work says so in place of the time."""
    table = Table(title=f"{len(cells)} cells; a few steps of each were timed, nothing is kept", title_justify="left")
    for name in ("task", "method"):
        table.add_column(name, justify="left", overflow="fold")
    for name in ("images", "done", "samples", "NFE", "backwards", "calls in all", "estimated time"):
        table.add_column(name, justify="right", overflow="fold")
    for cell in cells:
        seconds = "–" if cell.seconds is None else duration(cell.seconds / devices)
        counts = (cell.total, cell.total - cell.images, cell.num_samples, cell.nfe, cell.backwards, f"{cell.calls:,}")
        table.add_row(cell.task, cell.method, *map(str, counts), "refused" if cell.refusal else seconds)
    return table
