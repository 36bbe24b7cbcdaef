"""metrics.csv in the run folder: one row per logged step, appended, so that a killed run loses nothing and a resumed
one goes on.
"""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from common.files import write_atomically


class MetricsCSV(Logger):
    """Columns `step`, `epoch` and one per metric, in order of appearance; empty where a step has no value.

    Own instead of Lightning's CSVLogger, which deletes the file of the run that it continues. Rows of steps that a
    killed run had logged after its last checkpoint are dropped when the run goes on from there, so that every step
    stands once.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._columns is None:
            self._columns = self._rows()[0]
        row = {"step": str(step), **{k: _text(v) for k, v in metrics.items()}}
        if new := [c for c in row if c not in self._columns]:
            columns, rows = self._rows()
            self._columns = list(dict.fromkeys(["step", "epoch", *columns, *new]))
            self._write(rows)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Drop the rows of steps from `step` on, and a last line that a kill has torn."""
        columns, rows = self._rows()
        self._columns = columns
        if columns:
            self._write([r for r in rows if r.get("step", "").isdigit() and int(r["step"]) < step])

    def _rows(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self.path.is_file():
            return [], []
        lines = self.path.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        reader = csv.DictReader(lines)
        return list(reader.fieldnames or []), list(reader)

    def _write(self, rows: list[dict[str, str]]) -> None:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns or [], restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, buffer.getvalue())


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.8g}"
