"""metrics.json: fingerprints of the metrics in a folder, so that numbers of other options or weights are noticed."""

import json
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from evaluation.built_metrics import BuiltMetrics
from metrics.base import MetricBase, Missing

FILE = "metrics.json"


def same_metrics(metrics: BuiltMetrics, folder: Path, *, rows: bool, anew: bool) -> None:
    """Write metrics.json, before anything is restored; forget the caches (sets.csv, distribution.csv) whose metric has
    changed.

    Args:
        metrics: of the plan; a missing one has no fingerprint, and rows that are made now have no number of it.
        folder: of the results; one without the file is taken as it is.
        rows: whether rows.csv has numbers already.
        anew: they are all computed again.

    Raises:
        UserError: rows.csv has numbers of a metric that has other options or weights now.
    """
    path = folder / FILE
    before = _read(path)
    now = {name: _print(metric) for name, metric in metrics.every.items()} | dict.fromkeys(metrics.absent)
    changed = {name for name, value in now.items() if name in before and value not in (None, before[name])}
    stale = [name for name in metrics.row_names if name in changed]
    if rows and not anew and stale:
        raise UserError(
            f"'{folder}' holds rows without numbers of the metric '{stale[0]}', or with those of other options or"
            " weights: run once with --metrics_only, which computes them anew from the restored images, or give another"
            " --output"
        )
    for names, cache in ((metrics.samples, "sets.csv"), (metrics.sets, "distribution.csv")):
        if changed & names.keys():
            (folder / cache).unlink(missing_ok=True)
    write_atomically(path, json.dumps({**before, **now}, indent=1) + "\n")


def _print(metric: MetricBase) -> str | None:
    try:
        return metric.fingerprint()
    except Missing:
        return None


def _read(path: Path) -> dict[str, str | None]:
    """What was written before; nothing where the file is not there or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
