"""Trains a prior for a few minutes, draws from it, measures it, and writes one table:

    python -m studies.train_and_measure                                # CIFAR-10, ten minutes of one H200
    python -m studies.train_and_measure --train.trainer.max_time=00:00:02:00 --evaluate.num_images=2000

Runs, one after the other: train.py with the training config, evaluate.py with the evaluation config on what came out,
and studies.one_shot; then writes OUTPUT/table.md. --train.OPTION=VALUE is an option of train.py,
--evaluate.OPTION=VALUE one of evaluate.py. The same command again does what is missing. Needs no network: the data are
those under DATA_DIR.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically

ROOT = Path(__file__).parents[1]
TRAIN, EVALUATE = "configs/train/ddpm_cifar10_gpu.yaml", "configs/evaluate/generation_cifar10_gpu.yaml"
MEASURES = ("fid", "kid", "inception_score")
LAST = ("throughput/images_per_second", "throughput/peak_share", "train/loss", "val/loss")


def forwarded(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options of train.py, options of evaluate.py) of --train.X=V and --evaluate.X=V; UserError for others."""
    found: dict[str, list[str]] = {"--train.": [], "--evaluate.": []}
    for word in words:
        prefix = next((p for p in found if word.startswith(p)), None)
        if prefix is None or "=" not in word:
            raise UserError(
                f"unknown option '{word}': options of the two programs are --train.OPTION=VALUE and"
                " --evaluate.OPTION=VALUE, with ="
            )
        found[prefix].append("--" + word.removeprefix(prefix))
    return found["--train."], found["--evaluate."]


def run(words: Sequence[str]) -> str:
    """What a program of this Python prints, shown while it runs; UserError where it fails, SystemExit 75 where it was
    stopped and can go on.
    """
    command = [sys.executable, *words]
    print("$ python " + " ".join(words), flush=True)
    environment = {**os.environ, "WANDB_MODE": os.environ.get("WANDB_MODE", "offline")}
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        except SystemExit:  # a signal to this process alone; Ctrl-C reaches both
            process.terminate()  # it saves, which the end of this block waits for
            raise
    if process.returncode in (75, 130):
        raise SystemExit(process.returncode)
    if process.returncode:
        raise UserError(f"'python {' '.join(words)}' ended with {process.returncode}: its last words are above")
    return "".join(lines)


def machine() -> str:
    """What it ran on, in one line."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    return f"{device}; torch {torch.__version__}, Python {platform.python_version()}"


def last_values(metrics: Path) -> dict[str, float]:
    """The last value of each column of a run's metrics.csv that says how fast it is and where it stands."""
    found = {}
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            found |= {name: float(row[name]) for name in LAST if row.get(name)}
    return {name: found[name] for name in LAST if name in found}


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Of the rows of an evaluation's table.csv: a line of Markdown for each sampler and number of steps."""
    names = [m for m in MEASURES if any(r["metric"] == m for r in rows)]
    head = ["sampler", "steps", "calls", "images", *names, "images/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for key in dict.fromkeys((r["sampler"], r["steps"]) for r in rows):
        mine = {r["metric"]: r for r in rows if (r["sampler"], r["steps"]) == key}
        first = next(iter(mine.values()))
        cells = [_with_interval(mine[m]) if m in mine else "" for m in names]
        speed = f"{float(first['images_per_second']):.1f}" if first["images_per_second"] else ""
        lines.append("| " + " | ".join([*key, first["nfe"], first["images"], *cells, speed]) + " |")
    return lines


def _with_interval(row: dict[str, str]) -> str:
    value = f"{float(row['value']):.4g}"
    return f"{value} [{float(row['ci_low']):.4g}, {float(row['ci_high']):.4g}]" if row["ci_low"] else value


def page(output: Path, trained: dict[str, Any], one_shot: str, commands: Sequence[str]) -> str:
    """The table as Markdown."""
    with (output / "evaluation/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    features = sorted({r["features"] for r in rows if r.get("features")})
    lines = [
        "# Trained and measured",
        "",
        f"Machine: {machine()}.",
        "",
        *(f"    {command}" for command in commands),
        "",
        f"Training: {trained['step']} steps, {trained['images']} images; last logged"
        + ",".join(f" {name} {value:.4g}" for name, value in last_values(output / "run/metrics.csv").items())
        + ".",
        "",
        *table(rows),
        "",
        f"Features: {', '.join(features)}. Only values in the same features, of as many images, can be compared.",
        "",
        "One call of the denoiser:",
        "",
        "```",
        one_shot.strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = Parser(
        prog="python -m studies.train_and_measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--train", default=TRAIN, metavar="FILE", help=f"training config (default: {TRAIN})")
    parser.add_argument(
        "--evaluate", default=EVALUATE, metavar="FILE", help=f"evaluation config with samplers (default: {EVALUATE})"
    )
    parser.add_argument(
        "--data",
        default="datamodules.cifar10.CIFAR10",
        metavar="CLASS",
        help="whose test images are denoised in one call (default: datamodules.cifar10.CIFAR10)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/ddpm_cifar10_gpu"),
        metavar="DIR",
        help="for the run, the evaluation and table.md (default: results/ddpm_cifar10_gpu)",
    )
    args, rest = parser.parse_known_args()
    of_train, of_evaluate = forwarded(rest)
    for path in (args.train, args.evaluate):
        if not (ROOT / path).is_file():
            raise UserError(f"no file at '{path}': give a config, relative to the project's folder")
    output = require_writable_folder(args.output, "--output").resolve()
    run_folder, prior = output / "run", output / "run/checkpoints/last.ckpt"
    commands = [
        ["train.py", "fit", "--config", str(args.train), "--run", str(run_folder), *of_train],
        ["evaluate.py", "--config", str(args.evaluate), "--prior", str(prior), "--output", str(output / "evaluation")],
        ["-m", "studies.one_shot", "--prior", str(prior), "--data", args.data],
    ]
    commands[1] += of_evaluate
    trained = output / "trained.json"
    # A run that its time ended has steps left, and would go on.
    if not trained.is_file() and not (run_folder / "finished.json").is_file():
        run(commands[0])
    if not trained.is_file():
        from checkpoints.files import read_checkpoint_file  # late: a mistake in the options answers without torch

        content = read_checkpoint_file(prior)
        write_atomically(trained, json.dumps({"step": content["global_step"], "images": content["images_seen"]}))
    run(commands[1])
    one_shot = run(commands[2])
    shown = ["python " + " ".join(c).replace(str(output), str(args.output)) for c in commands]
    text = page(output, json.loads(trained.read_text()), one_shot, shown)
    write_atomically(output / "table.md", text)
    print(text)


if __name__ == "__main__":
    run_cli(main)
