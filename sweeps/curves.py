"""One metric along several training runs, side by side: python -m sweeps.curves RUN [RUN ...] --metric quality/fid

Reads metrics.csv of run folders, with or without W&B: a row for a run, a column for a number of images seen, METRIC
[METRIC_low, METRIC_high] in it where the run measured it there. Runs that saw the same images stand at the same column,
whatever a step cost them. A run that has not measured it yet has an empty row, and is named below the table.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, run_cli

Curve = dict[int, tuple[float, float | None, float | None]]  # images seen -> value, low, high


def read_curve(folder: Path, metric: str) -> Curve:
    """The metric of a run by images seen, {} where the run has not measured it; UserError where the folder is
    no run.
    """
    rows = _rows(folder)
    if not rows or metric not in rows[0]:
        return {}
    images, found = {}, {}
    for row in rows:  # not every row says how many images were seen, but rows of one step belong together
        if row.get("images"):
            images[row["step"]] = int(float(row["images"]))
    for row in rows:
        if row[metric] and row["step"] in images:
            low, high = (
                float(row[f"{metric}_{end}"]) if row.get(f"{metric}_{end}") else None for end in ("low", "high")
            )
            found[images[row["step"]]] = (float(row[metric]), low, high)
    return found


def read_curves(folders: Sequence[Path], metric: str) -> dict[str, Curve]:
    """Curves by the names of the folders (by their paths where names are shared); UserError, with what was measured,
    where no run has the metric.
    """
    names = [folder.name for folder in folders]
    curves = {f.name if names.count(f.name) == 1 else str(f): read_curve(f, metric) for f in folders}
    if not any(curves.values()):
        measured = sorted(
            {
                n
                for folder in folders
                for row in _rows(folder)
                for n, v in row.items()
                if v and "/" in n and not n.endswith(("_low", "_high"))
            }
        )
        where = ", ".join(f"'{folder / 'metrics.csv'}'" for folder in folders)
        raise UserError(
            f"--metric '{metric}': no measurement in {where}; there is {', '.join(measured) or 'none of anything yet'}"
        )
    return curves


def markdown(curves: dict[str, Curve], metric: str) -> str:
    """A row a run, a column for every number of images at which some run was measured; below, the runs without any."""
    columns = sorted({images for curve in curves.values() for images in curve})
    lines = [["run", *(f"{c:,}" for c in columns)], ["---", *("---:" for _ in columns)]]
    for name, curve in curves.items():
        lines.append([name, *(_cell(curve[c]) if c in curve else "" for c in columns)])
    without = [name for name, curve in curves.items() if not curve]
    below = f"\nnot measured yet: {', '.join(without)}\n" if without else ""
    return f"{metric} by images seen\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n" + below


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "metrics.csv"
    if not path.is_file():
        raise UserError(f"there is no metrics.csv in '{folder}': give folders of training runs, runs/NAME")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _cell(point: tuple[float, float | None, float | None]) -> str:
    value, low, high = point
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def main() -> None:
    parser = Parser(prog="python -m sweeps.curves", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of training runs")
    parser.add_argument("--metric", default="val/loss", help="a column of metrics.csv (default: %(default)s)")
    args = parser.parse_args()
    print(markdown(read_curves(args.runs, args.metric), args.metric))


if __name__ == "__main__":
    run_cli(main)
