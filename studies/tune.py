"""The best value of one option of a method, found on validation images: python -m studies.tune --config FILE --method
NAME --option NAME --values LIST --output FILE.yaml

    python -m studies.tune --config configs/evaluate/inverse_problems_mnist.yaml --method dps_norm \\
        --option relative_scale --values 0.5:16:6 --metric psnr --task box_noisy --limit 16 --output tuned.yaml
    python evaluate.py --config configs/evaluate/inverse_problems_mnist.yaml --config tuned.yaml

Every value restores the same measurements of --limit validation images with the seed of the config: one seed. They are
those of the training images that are held out first (by data.init_args.split_seed), so that a prior which was trained
with at least so many held out has not seen them; none is a test image. FILE.yaml gets the value with the best mean for
each task, and in comments the whole curve, what the best one cannot be told apart from, and whether it lies at an end
of what was tried. It runs as an evaluation in results/tune, and the same command again goes on where it was stopped;
more values join those that are there. Any entry of the config can be changed as for evaluate.py.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import dataclasses
import datetime
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from common.build import build, find_class, named_parameters
from common.command_line import Parser, at_least_one
from common.errors import UserError, nearest, run_cli
from common.files import write_atomically
from common.private_names import option_strings
from common.stop_signals import answer_stop_signals
from datamodules.base import ImageDataModule, Split
from evaluation.command_line import split_overrides
from evaluation.config import Config, MethodEntry, read_config
from evaluation.entries import Spec
from evaluation.progress import say
from evaluation.report.tables import Results
from evaluation.report.wandb_entry import WandbEntry
from evaluation.run import Options, evaluate
from metrics.base import DistributionMetric, MetricBase, SetMetric
from restoration.base import Method
from studies.tuning_curve import Curve, curve_of, described


def values_of(text: str, *, whole: bool) -> list[Any]:
    """[0.5, 1, 2] from "0.5,1,2"; n values evenly spaced in their logarithms from "first:last:n", to three digits,
    whole numbers where the option is one. UserError for anything else, fewer than two, or one twice.
    """
    if ":" in text:
        match = re.fullmatch(r"([^:]+):([^:]+):(\d+)", text)
        try:
            low, high, n = (float(match[1]), float(match[2]), int(match[3])) if match else (0.0, 0.0, 0)
        except ValueError:
            low, high, n = 0.0, 0.0, 0
        if not (0 < low < math.inf and 0 < high < math.inf and n >= 2):
            raise UserError(
                f"--values {text}: a range is FIRST:LAST:NUMBER, two positive numbers and how many values from one to"
                " the other, at least 2"
            )
        found = [low * (high / low) ** (k / (n - 1)) for k in range(n)]
        values: list[Any] = [round(v) if whole else float(f"{v:.3g}") for v in found]
    else:
        try:
            values = [_number(yaml.safe_load(part)) for part in text.split(",")]
        except yaml.YAMLError as error:
            raise UserError(f"--values {text}: it must be a list such as 0.5,1,2") from error
    if len(values) < 2 or any(values.count(v) > 1 for v in values):
        raise UserError(f"--values {text}: give at least two values, each once")
    return values


def _number(value: Any) -> Any:
    """1e-3 as a number, which YAML 1.1 reads as a word."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def trials(entry: MethodEntry, name: str, option: str, values: Sequence[Any]) -> dict[str, MethodEntry]:
    """The entry once for each value of the option, by a name that says it, for all of the entry's tasks."""
    found = {}
    for value in values:
        label = re.sub(r"[^A-Za-z0-9_+-]", "_", f"{name}-{option}-{value}")
        if label in found:
            raise UserError(f"--values: {value} cannot be told from another value by its name '{label}'")
        per_task = {t: {o: v for o, v in given.items() if o != option} for t, given in entry.per_task.items()}
        found[label] = dataclasses.replace(
            entry, init_args={**entry.init_args, option: value}, per_task=per_task, limit=None
        )
    return found


def asked_for(config: Config, name: str, option: str, metric: str, tasks: Sequence[str]) -> MethodEntry:
    """The entry with the tasks that are asked for; UserError for names that are none, and for a metric that decides
    nothing.
    """
    if name not in config.methods:
        raise UserError(
            f"--method {name}: the config has no such method{nearest(name, config.methods)}; it has"
            f" {', '.join(config.methods)}"
        )
    entry = config.methods[name]
    taken = set(named_parameters(find_class(entry.class_path, Method, where=f"methods.{name}"))) - {"prior"}
    if option not in taken:
        raise UserError(
            f"--option {option}: {entry.class_path} has no such option{nearest(option, taken)}; it has"
            f" {', '.join(sorted(taken))}"
        )
    if metric not in config.metrics:
        raise UserError(
            f"--metric {metric}: the config has no such metric{nearest(metric, config.metrics)}; it has"
            f" {', '.join(config.metrics)}"
        )
    spec = config.metrics[metric]
    found = find_class(spec["class_path"], MetricBase, where=f"metrics.{metric}")
    if issubclass(found, DistributionMetric) or found.higher_is_better is None:
        raise UserError(f"--metric {metric}: it has no best end for each image, so that no value could be the best")
    if issubclass(found, SetMetric) and entry.num_samples < 2:
        raise UserError(f"--metric {metric} is of several samples: give --methods.{name}.num_samples=4")
    on = [t for t in config.tasks if entry.tasks is None or t in entry.tasks]
    for task in tasks:
        if task not in on:
            raise UserError(f"--task {task}: {name} has no such task{nearest(task, on)}; it has {', '.join(on)}")
    chosen = tuple(t for t in on if not tasks or t in tasks)
    return dataclasses.replace(
        entry, tasks=chosen, per_task={t: given for t, given in entry.per_task.items() if t in chosen}
    )


def held_out(config: Config, limit: int) -> tuple[Spec, int]:
    """The data with only so many validation images, those that are held out first, and how many there are.

    UserError where the data hold none out, or hold out test images.
    """
    data = build(config.data, ImageDataModule, where="data")
    data.prepare_data()
    found, test = (data.images(cast(Split, split)) for split in ("validation", "test"))
    if not len(found):
        raise UserError(
            f"{config.data['class_path']} holds no validation images out, and an option must not be found on test"
            " images: give --data.init_args.validation=100, a number with which the prior was trained as well"
        )
    if found.store is test.store and set(found.positions.tolist()) & set(test.positions.tolist()):
        raise UserError(
            f"the validation images of {config.data['class_path']} are test images too: give data of which a part is"
            " held out"
        )
    used = min(limit, len(found))
    return {**config.data, "init_args": {**config.data["init_args"], "validation": used}}, used


def fragment(curves: Sequence[Curve], name: str, option: str, origin: Sequence[str]) -> str:
    """A config with the best value of each task, and where it comes from in comments."""
    lines = [*(f"# {line}" for line in origin), "methods:", f"  {name}:", "    per_task:"]
    for curve in curves:
        lines += [f"      # {line}" for line in described(curve, option)]
        chosen = yaml.safe_dump(curve.best.value).removesuffix("...\n").strip()
        lines.append(f"      {curve.task}: {{{option}: {chosen}}}")
    return "\n".join([*lines, ""])


def tune(
    config: Config,
    *,
    method: str,
    option: str,
    values: Sequence[Any],
    metric: str,
    tasks: Sequence[str],
    limit: int,
    options: Options,
    command: str,
) -> tuple[list[Curve], str]:
    """The curve of each task, and the fragment of a config with the best values.

    Raises:
        UserError: names that the config does not have, no validation images, a value that the method refuses.
    """
    entry = asked_for(config, method, option, metric, tasks)
    data, used = held_out(config, limit)
    assert entry.tasks is not None
    entries = trials(entry, method, option, values)
    run = dataclasses.replace(
        config,
        data=data,
        split="validation",
        limit=used,
        tasks={t: dataclasses.replace(config.tasks[t], limit=None) for t in entry.tasks},
        methods=entries,
        metrics={metric: config.metrics[metric]},
        title=f"{option} of {method}",
        wandb=WandbEntry(),
    )
    results: Results = evaluate(run, options)
    labels = dict(zip(entries, values, strict=True))
    column = next((c for c in results.columns if c.best), None)
    if column is None:
        raise UserError(f"--metric {metric}: {'; '.join(results.missing) or 'it gave no number'}")
    curves = [curve_of(results, options.output, task, labels, column) for task in entry.tasks]
    prior = config.priors.get(entry.prior)
    origin = [
        f"{option} of {method}, found on {datetime.datetime.now().astimezone().date()} by",
        command,
        f"images: the {used} training images that {data['class_path']} {data['init_args']} holds out first; a prior",
        "trained with at least so many held out has not seen them, and none is a test image",
        f"seed {config.seed} alone; samples of each image: {entry.num_samples}; decided by the mean of {column.label}",
    ]
    if prior is not None:
        origin.append(f"prior: {prior.path}")
    return curves, fragment(curves, method, option, origin)


def main() -> None:
    answer_stop_signals()
    parser = Parser(prog="python -m studies.tune", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", action="append", required=True, metavar="FILE", help="of evaluate.py")
    parser.add_argument("--method", required=True, metavar="NAME", help="an entry of its methods")
    parser.add_argument("--option", required=True, metavar="NAME", help="an option of that method's class")
    parser.add_argument(
        "--values", required=True, metavar="LIST", help="0.5,1,2 or first:last:number, evenly in their logarithms"
    )
    parser.add_argument("--metric", default="psnr", metavar="NAME", help="an entry of its metrics (default: psnr)")
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="only this one, may be given again (default: all)"
    )
    parser.add_argument("--limit", type=at_least_one, default=16, metavar="N", help="images (default: 16)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.yaml", help="the config that is written")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where it runs (default: results/tune/NAME of --output and --limit)"
    )
    parser.add_argument("--devices", type=at_least_one, default=1, metavar="N", help="processes (default: 1)")
    args, rest = parser.parse_known_args()
    config = read_config(args.config, split_overrides(rest, option_strings(parser)))
    entry = config.methods.get(args.method)
    whole = entry is not None and _whole(entry, args.option)
    if args.output.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output {args.output}: it is a config, give a name that ends in .yaml")
    curves, text = tune(
        config,
        method=args.method,
        option=args.option,
        values=values_of(args.values, whole=whole),
        metric=args.metric,
        tasks=args.task,
        limit=args.limit,
        options=Options(
            output=args.folder or Path("results/tune") / f"{args.output.stem}-{args.limit}", devices=args.devices
        ),
        command=f"python -m studies.tune {shlex.join(sys.argv[1:])}",
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.output, text)
    for curve in curves:
        for line in described(curve, args.option):
            print(line)
        if curve.border:
            say(f"warning: {curve.task}: {curve.border}")
    say(f"python evaluate.py {' '.join(f'--config {c}' for c in args.config)} --config {args.output}")


def _whole(entry: MethodEntry, option: str) -> bool:
    """Whether an option is a whole number."""
    parameter = named_parameters(find_class(entry.class_path, Method, where="methods")).get(option)
    text = str(parameter.annotation) if parameter is not None else ""
    return "int" in text and "float" not in text


if __name__ == "__main__":
    run_cli(main)
