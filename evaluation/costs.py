"""costs.csv: what a sample of every cell cost: network calls, backward passes, seconds, and the most memory that its
batches needed.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from common.files import write_atomically
from evaluation.plan import Key
from evaluation.report.tables import Results
from evaluation.rows import cell_text

HEADER = ("task", "method", "nfe", "backwards", "seconds", "chains", "peak_mb", "memory")


def write_costs(results: Results, memory: Mapping[Key, tuple[int, float, str]], folder: Path) -> None:
    """Write costs.csv; memory as :func:`evaluation.peak_memory.read_memory` gives it.

    nfe and seconds are means over samples as they were restored; backwards is what the method declares with its
    options; an empty cell for memory that was not measured.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for key in results.table:
        task, method = key
        chains, megabytes, what = memory.get(key, ("", None, ""))
        costs = (results.nfe[key], results.backwards[key], results.seconds[key], chains, megabytes, what)
        writer.writerow([task, method, *map(cell_text, costs)])
    write_atomically(folder / "costs.csv", text.getvalue())
