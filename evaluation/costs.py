"""costs.csv: what a sample of every cell cost: network calls, backward passes, seconds, and the most memory that its
batches needed.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from common.files import write_atomically
from evaluation.peak_memory import read_memory
from evaluation.plan import Plan
from evaluation.report.tables import Results
from evaluation.rows import cell_text

HEADER = ("task", "method", "nfe", "backwards", "seconds", "chains", "peak_mb", "memory")


def write_costs(plan: Plan, results: Results, folder: Path, others: Sequence[Path] = ()) -> None:
    """Write costs.csv. others: folders of shards, which have a memory.csv of their own.

    nfe and seconds are means over samples as they were restored; backwards is what the method declares with its
    options; an empty cell for memory that was not measured.
    """
    memory = read_memory([folder, *others])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for key in results.table:
        task, method = key
        chains, megabytes, what = memory.get(key, ("", None, ""))
        backwards = plan.methods[method].on(task).calls().backwards
        costs = (results.nfe[key], backwards, results.seconds[key], chains, megabytes, what)
        writer.writerow([task, method, *map(cell_text, costs)])
    write_atomically(folder / "costs.csv", text.getvalue())
