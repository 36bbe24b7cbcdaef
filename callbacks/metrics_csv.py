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

from common.errors import UserError
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
        self.count = 0  # rows in the file, once one was written or the run went on

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
            self._columns, rows = self._rows()
            self.count = len(rows)
        self.check()
        row = {"step": str(step), **{k: _text(v) for k, v in metrics.items()}}
        if new := [c for c in row if c not in self._columns]:
            columns, rows = self._rows()
            self._columns = list(dict.fromkeys(["step", "epoch", *columns, *new]))
            self._write(rows)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self.count += 1

    def check(self) -> None:
        """UserError where the run folder was removed while the run goes on: what is written from now on would make a
        folder that holds a part of a run.
        """
        if self.count and not self.path.exists():
            raise UserError(
                f"'{self.path}' was removed while the run went on: leave the run folder alone; the same command again"
                " goes on from what is left of it, or begins anew"
            )

    @rank_zero_only
    def resume_at(self, step: int, count: int | None = None) -> None:
        """Keep the first `count` rows, those that there were when the checkpoint was written: what came later is
        logged again. Where a checkpoint does not say (None): the rows of steps before `step`. A last line that a kill
        has torn is dropped.
        """
        columns, rows = self._rows()
        if columns:
            known = [r for r in rows if r.get("step", "").isdigit() and int(r["step"]) < step]
            rows = known if count is None else rows[:count]
            self._columns = columns
            self._write(rows)
        self.count = len(rows)

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
