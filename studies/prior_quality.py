"""How good a prior is, as one page: python -m studies.prior_quality --config FILE --prior PATH --output DIR

What evaluate.py says of the images that it draws (a configuration with samplers, such as
configs/evaluate/generation_mnist_held_out.yaml), how sure the classifier is of them and which classes they have, beside
held-out images, and how well it denoises held-out images in one call, by level. Writes quality.md, classes.csv and
one_shot.csv beside the evaluation's own table and sheets. The same command again goes on where it was stopped.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import write_atomically
from common.image_range import to_float
from common.private_names import option_strings
from common.stop_signals import answer_stop_signals
from datamodules.store import ImageSet
from diffusion.denoiser import Condition
from evaluation.command_line import split_overrides
from evaluation.generation.chunks import chunks_of, read_chunk
from evaluation.generation.config import is_generation, read_generation_config
from evaluation.generation.plan import Cell, Plan, make_plan
from evaluation.generation.reference import reference_features, shuffled
from evaluation.generation.results import REAL, Line
from evaluation.generation.run import evaluate
from evaluation.run import Options
from evaluation.workers import device_of
from metrics.features import Features
from metrics.top_probability import top_probability
from studies.one_shot import one_shot_rmse

LEVELS_255 = (5.0, 15.0, 25.0, 50.0, 100.0, 200.0)
SURE = 0.9


@dataclass(frozen=True)
class Reading:
    """What a classifier reads in a set of images.

    top: mean of the largest probability. sure: images of which it is above 0.9. sure_of_100: the same of the first 100
    (of all where there are fewer). classes: how many images it puts in each.
    """

    name: str
    images: int
    top: float
    sure: int
    sure_of_100: int
    classes: tuple[int, ...]


def reading(name: str, probabilities: Tensor) -> Reading:
    """Of rows [N, classes], in the order of the images; ValueError for rows that are no probabilities."""
    top = top_probability(probabilities)
    classes = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    above = top > SURE
    return Reading(name, len(top), float(top.mean()), int(above.sum()), int(above[:100].sum()), tuple(classes.tolist()))


def one_shot(cell: Cell, images: ImageSet, limit: int, seed: int, device: torch.device) -> list[float]:
    """RMSE of 255 of one call at LEVELS_255, on `limit` images of a set, always the same."""
    batch = images.get(shuffled(len(images))[:limit].tolist())
    condition = Condition(label=batch.label.to(device)) if getattr(cell.network, "num_classes", None) else None
    truth = to_float(batch.image).to(device)
    sigmas = [level / 127.5 for level in LEVELS_255]
    return one_shot_rmse(cell.denoiser, truth, sigmas, seed=seed, condition=condition)


def psnr(rmse: float) -> float:
    """20 log10(255 / RMSE), of all pixels of all images together."""
    return 20 * math.log10(255 / rmse) if rmse else math.inf


def page(
    plan: Plan, lines: Sequence[Line], readings: Sequence[Reading], levels: dict[str, list[float]], images: int
) -> str:
    """quality.md: three tables, the same rows in each."""
    config = plan.config
    parts = [
        f"# {config.title or 'A prior'}\n",
        f"{config.num_images} images of each, seed {config.seed}; reference: {config.reference} split of"
        f" {config.data['class_path']}, features of {plan.features.name}; 95 % intervals.\n",
        _markdown(
            ["images", "NFE", *(m.label + (f" ({m.unit})" if m.unit else "") for m in plan.metrics.values())],
            [
                [line.name, f"{line.nfe:g}" if line.cell else "", *(_interval(plan, line, n) for n in plan.metrics)]
                for line in lines
            ],
        ),
        *(f"![{name}](images/{name}.png)\n" for name in (c.name for c in plan.cells)),
    ]
    if readings:
        parts += [
            "## What the classifier reads\n",
            _markdown(
                ["images", "number", "mean top probability", f"above {SURE:g}", "of the first 100", "by class"],
                [
                    [r.name, r.images, f"{r.top:.4f}", r.sure, r.sure_of_100, " ".join(map(str, r.classes))]
                    for r in readings
                ],
            ),
        ]
    parts += [
        "## One-shot denoising\n",
        f"PSNR in dB over all pixels of {images} images of the {config.reference} split, one call at the true level;"
        " sigma of 255.\n",
        _markdown(
            ["prior", *(f"{level:g}" for level in LEVELS_255)],
            [
                ["the noise itself", *(f"{psnr(level):.2f}" for level in LEVELS_255)],
                *([name, *(f"{psnr(rmse):.2f}" for rmse in found)] for name, found in levels.items()),
            ],
        ),
    ]
    return "\n".join(parts)


def _interval(plan: Plan, line: Line, name: str) -> str:
    estimate = line.shown(plan.metrics[name].columns(name)[0])
    if estimate is None:
        return "–"
    ends = "" if math.isnan(estimate.low) else f" [{estimate.low:.3g}, {estimate.high:.3g}]"
    return f"{estimate.value:.3g}{ends}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def main() -> None:
    answer_stop_signals()
    parser = Parser(
        prog="python -m studies.prior_quality",
        description=__doc__,
        epilog="other options change the configuration, as those of evaluate.py do: --seed=1, --samplers.NAME.steps=10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", action="append", required=True, metavar="FILE", help="with samplers")
    parser.add_argument("--prior", metavar="PATH", help="the checkpoint of the prior 'default'")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where all of it goes")
    parser.add_argument("--limit", type=int, metavar="N", help="images drawn by every sampler")
    parser.add_argument("--one_shot", type=int, default=500, metavar="N", help="images denoised (default: 500)")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of drawing (default: 32)")
    args, rest = parser.parse_known_args()
    if args.one_shot < 1:
        raise UserError(f"--one_shot must be at least 1, got {args.one_shot}")
    if not is_generation(args.config):
        raise UserError(f"--config '{args.config[-1]}' has no samplers: give one such as those of docs/generation.md")
    overrides = split_overrides(rest, option_strings(parser))
    if args.limit is not None:
        overrides.append(("limit", str(args.limit)))
    if args.prior is not None:
        overrides.append(("priors.default.path", f"'{args.prior}'"))
    config = read_generation_config(args.config, overrides)
    options = Options(output=args.output, precision=args.precision)
    lines = evaluate(config, options)

    plan = make_plan(config, precision=args.precision, device=device_of(0, options.resolved_accelerator()))
    assert plan.reference is not None  # made with its images
    drawn: dict[str, list[Features]] = {cell.name: [] for cell in plan.cells}
    for chunk in chunks_of(plan):
        found = read_chunk(plan, args.output, chunk)
        assert found is not None  # all were drawn
        drawn[plan.cells[chunk.cell].name].append(found.features)
    limit = min(config.num_images, len(plan.reference))
    sets = {f"{REAL}, {config.reference}": reference_features(plan.reference, plan.features, limit=limit)}
    sets |= {name: Features.joined(parts) for name, parts in drawn.items()}
    known = {name: found.probabilities for name, found in sets.items()}
    # A classifier of other pictures says nothing of these, see `pool` of ClassifierFeatures.
    asked = "top_probability" in plan.metrics
    readings = [reading(name, p) for name, p in known.items() if p is not None] if asked else []
    count, levels = min(args.one_shot, len(plan.reference)), {}
    for cell in plan.cells:
        if cell.sampler_name not in levels:
            levels[cell.sampler_name] = one_shot(cell, plan.reference, count, config.seed, plan.device)
    numbers = range(max((len(r.classes) for r in readings), default=0))
    rows = [[r.name, r.images, r.top, r.sure, r.sure_of_100, *r.classes] for r in readings]
    head = ["name", "images", "mean_top_probability", "above_0.9", "above_0.9_of_first_100"]
    write_atomically(args.output / "classes.csv", _table([*head, *(f"class_{k}" for k in numbers)], rows))
    shot = [[n, level, rmse, psnr(rmse)] for n, f in levels.items() for level, rmse in zip(LEVELS_255, f, strict=True)]
    write_atomically(args.output / "one_shot.csv", _table(["sampler", "sigma_255", "rmse_255", "psnr"], shot))
    write_atomically(args.output / "quality.md", page(plan, lines, readings, levels, count))
    print(args.output / "quality.md")


if __name__ == "__main__":
    run_cli(main)
