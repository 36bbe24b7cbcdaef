"""Whether one method is better than another on the same measurements: python -m evaluation.report.differences RESULTS
A:B [A:B ...] [--metric psnr --metric psnr_mean ...]

    python -m evaluation.report.differences results/mnist dps:sdedit --metric ssim

For every task that both did: mean(A - B) over the images that both restored, samples averaged first, with a 95 %
interval over images, in how many of them A's value is the larger, and mean(A) / mean(B) - 1 with its interval where no
value is negative. Narrower than what two separate intervals suggest, because images differ more than methods do. Below
50 images Student's t, corrected for skewness (Hall 1992), from 50 on a percentile bootstrap, of one image none: the
table says which. Metrics are columns of rows.csv, or of sets.csv for what needs several samples of an image.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.command_line import Parser
from common.errors import UserError, run_cli
from evaluation.report.statistics import Interval, in_words, interval_of_means, paired_difference

Values = dict[tuple[str, str], dict[str, list[float]]]  # (task, method) -> image -> values of its samples


@dataclass(frozen=True)
class Difference:
    """mean(a - b) for one task; larger: the share of images where a's value is the larger; ratio: mean(a) / mean(b)
    - 1, NaN where a value is negative, or all of b are 0.
    """

    task: str
    a: str
    b: str
    interval: Interval
    larger: float
    ratio: Interval


def read_values(folder: Path, metric: str) -> Values:
    """A column of rows.csv, or where that has none, of sets.csv; UserError where there is none."""
    columns: list[str] = []
    for path in (folder / "rows.csv", folder / "sets.csv"):
        if not path.is_file():
            if not columns:
                raise UserError(
                    f"there is no rows.csv in '{folder}': give the folder of a finished evaluation, results/NAME"
                )
            continue
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            columns += [name for name in reader.fieldnames or () if name not in columns]
            if metric not in (reader.fieldnames or ()):
                continue
            found: Values = defaultdict(lambda: defaultdict(list))
            for row in reader:
                found[row["task"], row["method"]][row["image"]].append(float(row[metric] or math.nan))
            return found
    raise UserError(f"--metric {metric}: '{folder / 'rows.csv'}' has no such column; there are {', '.join(columns)}")


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
            both = [i for i in of_a if i in of_b and not math.isnan(of_a[i] - of_b[i])]
            x, y = [of_a[i] for i in both], [of_b[i] for i in both]
            larger = sum(p > q for p, q in zip(x, y, strict=True)) / len(both) if both else float("nan")
            ratio = Interval(math.nan, math.nan, math.nan, 0)
            if both and min(*x, *y) >= 0 < sum(y):
                ratio = interval_of_means([x, y], _ratio, seed=0).within(-1, math.inf)
            found.append(Difference(task, a, b, paired_difference(x, y, seed=0), larger, ratio))
    return found


def _ratio(means: Sequence[np.ndarray]) -> np.ndarray:
    return means[0] / means[1] - 1


def markdown(found: list[Difference], metric: str) -> str:
    lines = [
        f"| task | difference in {metric} | mean | 95 % | larger in | images | relative | 95 % |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for d in found:
        i, r = d.interval, d.ratio
        share = "–" if math.isnan(d.larger) else f"{100 * d.larger:.0f} %"
        relative = "–" if math.isnan(r.mean) else f"{100 * r.mean:+.3g} %"
        lines.append(
            f"| {d.task} | {d.a} - {d.b} | {_number(i.mean)} | {_ends(i)} | {share} | {i.n} | {relative} |"
            f" {_ends(r, 100)} |"
        )
    return "\n".join([*lines, "", f"95 % intervals over images: {in_words(d.interval.n for d in found)}.", ""])


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3g}"


def _ends(interval: Interval, factor: float = 1.0) -> str:
    if math.isnan(interval.low):
        return "–"
    return f"[{factor * interval.low:+.3g}, {factor * interval.high:+.3g}]"


def main() -> None:
    parser = Parser(prog="python -m evaluation.report.differences", description=__doc__, allow_abbrev=False)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder of an evaluation")
    parser.add_argument("pairs", nargs="+", metavar="A:B", help="two methods")
    parser.add_argument(
        "--metric",
        action="append",
        help="a column of rows.csv or sets.csv; may be given several times (default: psnr)",
    )
    args = parser.parse_args()
    pairs = [tuple(p.split(":")) for p in args.pairs]
    for text, pair in zip(args.pairs, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise UserError(f"'{text}' is no pair of methods: write A:B")
    for metric in args.metric or ["psnr"]:
        print(markdown(differences(read_values(args.results, metric), pairs), metric))


if __name__ == "__main__":
    run_cli(main)
