"""One metric along several training runs, side by side: python -m sweeps.curves RUN [RUN ...] --metric quality/fid

Reads metrics.csv of run folders, with or without W&B: a row for a run, a column for a number of images seen, METRIC [METRIC_low, METRIC_high] in it where the
run measured it there. Runs that saw the same images stand at the same column, whatever a step cost them.
"""

import csv
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, run_cli

Curve = dict[int, tuple[float, float | None, float | None]]  # images seen -> value, low, high


def read_curve(folder: Path, metric: str) -> Curve:
    """The metric of a run by images seen; UserError where the folder is no run or never measured it."""
    path = folder / "metrics.csv"
    if not path.is_file():
        raise UserError(f"there is no metrics.csv in '{folder}': give folders of training runs, runs/NAME")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and metric not in rows[0]:
        measured = ", ".join(sorted(n for n in rows[0] if "/" in n and not n.endswith(("_low", "_high")) and any(r[n] for r in rows)))
        raise UserError(f"--metric '{metric}': '{path}' does not have it; it has {measured}")
    images, found = {}, {}
    for row in rows:  # not every row says how many images were seen, but rows of one step belong together
        if row.get("images"):
            images[row["step"]] = int(float(row["images"]))
    for row in rows:
        if row[metric] and row["step"] in images:
            low, high = (float(row[f"{metric}_{end}"]) if row.get(f"{metric}_{end}") else None for end in ("low", "high"))
            found[images[row["step"]]] = (float(row[metric]), low, high)
    return found


def markdown(curves: dict[str, Curve], metric: str) -> str:
    """A row a run, a column for every number of images at which some run was measured."""
    columns = sorted({images for curve in curves.values() for images in curve})
    lines = [["run", *(f"{c:,}" for c in columns)], ["---", *("---:" for _ in columns)]]
    for name, curve in curves.items():
        lines.append([name, *(_cell(curve[c]) if c in curve else "" for c in columns)])
    return f"{metric} by images seen\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(point: tuple[float, float | None, float | None]) -> str:
    value, low, high = point
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def main() -> None:
    parser = Parser(prog="python -m sweeps.curves", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of training runs")
    parser.add_argument("--metric", default="val/loss", help="a column of metrics.csv (default: %(default)s)")
    args = parser.parse_args()
    print(markdown({folder.name: read_curve(folder, args.metric) for folder in args.runs}, args.metric))


if __name__ == "__main__":
    run_cli(main)
