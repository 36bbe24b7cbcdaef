"""Loss, PSNR and FID over the steps and the seconds of training, of a study of conditioning images:
python -m studies.conditioning_curves RESULTS --output FILE.png

    python -m studies.conditioning_curves results/dip_in_training_durations --output curves.png --variant plain

From runs.csv of studies.conditioning_study. Above over gradient steps, below over seconds of the processor with those
of the fits of the conditioning images: the training loss, the PSNR of x0 at one noise level, 10 log10(4 / error) in dB
for images in [-1, 1], and the FID of what is drawn. A line is the mean over seeds, its band reaches from the lowest to
the highest seed.
"""

import argparse
import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, nearest, run_cli
from common.files import require_writable_folder
from studies.figures import dark_colours, new_figure, plain_panel, save

Row = dict[str, str]


def psnr(error: float) -> float:
    """10 log10(4 / error) in dB: of a mean squared error of images in [-1, 1]."""
    return 10 * math.log10(4 / error)


def curve(
    rows: Sequence[Row], variant: str, over: str, value: Callable[[Row], float | None]
) -> list[tuple[float, float, float, float]]:
    """Of every measured step, in their order: the mean of `over`, then mean, least and greatest of the value over
    seeds.
    """
    found = []
    for step in sorted({int(r["step"]) for r in rows if r["variant"] == variant}):
        here = [r for r in rows if r["variant"] == variant and int(r["step"]) == step]
        values = [v for v in map(value, here) if v is not None]
        if values:
            at = sum(float(r[over]) for r in here) / len(here)
            found.append((at, sum(values) / len(values), min(values), max(values)))
    return found


def draw(rows: Sequence[Row], variants: Sequence[str], sigma: str, output: Path) -> None:
    """The picture, a PNG."""
    column = f"x0_loss_{sigma}"
    quantities: list[tuple[str, Callable[[Row], float | None]]] = [
        ("training loss", lambda r: float(r["train_loss"])),
        (f"PSNR of x0 at sigma {sigma} / dB", lambda r: psnr(float(r[column])) if r[column] else None),
        ("FID, project's features", lambda r: float(r["fid"])),
    ]
    axes = (("gradient steps", "step"), ("seconds of the processor, fits included", "seconds_in_all"))
    figure, colours = new_figure(13, 7), dark_colours()
    for number in range(6):
        panel = plain_panel(figure, 2, 3, number)
        (label, value), (below, over) = quantities[number % 3], axes[number // 3]
        for k, variant in enumerate(variants):
            points = curve(rows, variant, over, value)
            if not points:
                continue
            x, mean, low, high = zip(*points, strict=True)
            style = {"color": colours[k % len(colours)], "linestyle": "-" if k < len(colours) else "--"}
            panel.plot(x, mean, marker="o", markersize=3.5, linewidth=1.2, label=variant.replace("_", " "), **style)
            panel.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
        panel.set_xlabel(below, fontsize=8)
        panel.set_ylabel(label, fontsize=8)
        if number == 0:
            panel.legend(fontsize=8, frameon=False)
    seeds = sorted({r["seed"] for r in rows})
    said = "One seed." if len(seeds) == 1 else f"Lines: means over {len(seeds)} seeds, bands: lowest to highest seed."
    figure.supxlabel(said, fontsize=8)
    save(figure, output)


def read_rows(folder: Path) -> list[Row]:
    """Of runs.csv; UserError where it is not there or empty."""
    path = folder / "runs.csv"
    if not path.is_file():
        raise UserError(f"there is no runs.csv in '{folder}': give the --output of studies.conditioning_study")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise UserError(f"'{path}' has no rows: run python -m studies.conditioning_study first")
    return rows


def main() -> None:
    parser = Parser(
        prog="python -m studies.conditioning_curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the folder of the study")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="the picture")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME", help="only it, may be given again (default: all)"
    )
    parser.add_argument("--sigma", default="0.5", metavar="LEVEL", help="the noise level of the PSNR (default: 0.5)")
    args = parser.parse_args()
    if args.output.suffix != ".png":
        raise UserError(f"--output {args.output}: it is a picture, give a name that ends in .png")
    rows = read_rows(args.results)
    there = list(dict.fromkeys(r["variant"] for r in rows))
    for name in args.variant:
        if name not in there:
            raise UserError(
                f"--variant {name}: there is no such one{nearest(name, there)}; there are {', '.join(there)}"
            )
    levels = [name.removeprefix("x0_loss_") for name in rows[0] if name.startswith("x0_loss_")]
    if args.sigma not in levels:
        raise UserError(f"--sigma {args.sigma}: the study measured no such level; it has {', '.join(levels)}")
    require_writable_folder(args.output.parent, "--output")
    draw(rows, args.variant or there, args.sigma, args.output)


if __name__ == "__main__":
    run_cli(main)
