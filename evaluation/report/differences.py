"""Whether one method is better than another on the same measurements: python -m evaluation.report.differences RESULTS
A:B [A:B ...] [--metric psnr]

    python -m evaluation.report.differences results/mnist dps:sdedit --metric ssim

For every task that both did: mean(A - B) over the images that both restored, samples averaged first, with a 95 %
interval over images, and in how many of them A's value is the larger. Narrower than what two separate intervals
suggest, because images differ more than methods do. Below 50 images Student's t, corrected for skewness (Hall 1992),
from 50 on a percentile bootstrap, of one image none: the table says which.
"""

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, run_cli
from evaluation.report.statistics import Interval, in_words, paired_difference

Values = dict[tuple[str, str], dict[str, list[float]]]  # (task, method) -> image -> values of its samples


@dataclass(frozen=True)
class Difference:
    """mean(a - b) for one task; larger: the share of images where a's value is the larger."""

    task: str
    a: str
    b: str
    interval: Interval
    larger: float


def read_values(folder: Path, metric: str) -> Values:
    """A column of rows.csv; UserError where there is none."""
    path = folder / "rows.csv"
    if not path.is_file():
        raise UserError(f"there is no rows.csv in '{folder}': give the folder of a finished evaluation, results/NAME")
    found: Values = defaultdict(lambda: defaultdict(list))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if metric not in row:
                raise UserError(f"--metric {metric}: '{path}' has no such column; it has {', '.join(row)}")
            found[row["task"], row["method"]][row["image"]].append(float(row[metric]))
    return found


def differences(values: Values, pairs: list[tuple[str, str]]) -> list[Difference]:
    """In the order of the pairs, tasks in the order of the file; UserError for a method that is not there, or a pair
    without a common task.
    """
    methods = list(dict.fromkeys(method for _, method in values))
    found = []
    for a, b in pairs:
        for name in (a, b):
            if name not in methods:
                raise UserError(f"there is no method '{name}' in the results; there are {', '.join(methods)}")
        tasks = [t for t in dict.fromkeys(task for task, _ in values) if (t, a) in values and (t, b) in values]
        if not tasks:
            raise UserError(f"no task was done by both '{a}' and '{b}': compare methods that share one")
        for task in tasks:
            of_a, of_b = ({i: sum(v) / len(v) for i, v in values[task, m].items()} for m in (a, b))
            both = [i for i in of_a if i in of_b]
            interval = paired_difference([of_a[i] for i in both], [of_b[i] for i in both], seed=0)
            larger = sum(of_a[i] > of_b[i] for i in both) / len(both) if both else float("nan")
            found.append(Difference(task, a, b, interval, larger))
    return found


def markdown(found: list[Difference], metric: str) -> str:
    lines = [
        f"| task | difference in {metric} | mean | 95 % | larger in | images |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for d in found:
        i = d.interval
        ends = "–" if math.isnan(i.low) else f"[{i.low:+.3g}, {i.high:+.3g}]"
        lines.append(f"| {d.task} | {d.a} - {d.b} | {i.mean:+.3g} | {ends} | {100 * d.larger:.0f} % | {i.n} |")
    return "\n".join([*lines, "", f"95 % intervals over images: {in_words(d.interval.n for d in found)}.", ""])


def main() -> None:
    parser = Parser(prog="python -m evaluation.report.differences", description=__doc__, allow_abbrev=False)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder of an evaluation")
    parser.add_argument("pairs", nargs="+", metavar="A:B", help="two methods")
    parser.add_argument("--metric", default="psnr", help="a column of rows.csv (default: %(default)s)")
    args = parser.parse_args()
    pairs = [tuple(p.split(":")) for p in args.pairs]
    for text, pair in zip(args.pairs, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise UserError(f"'{text}' is no pair of methods: write A:B")
    print(markdown(differences(read_values(args.results, args.metric), pairs), args.metric))


if __name__ == "__main__":
    run_cli(main)
