"""How much of an evaluation's time is not the network's: ``python -m benchmarks.evaluation_overhead [--images N]
[--steps N]``.

Runs the whole of evaluate (plan, restoring, metrics, images, rows, table, sheets, report) with the MNIST network on
random 28x28 images, with clocks around the network's forward, the backward pass, and each method. The goal: under 5 %
outside of the network. Prints a table and ends with code 1 where the goal is missed.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import contextlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.build import build
from common.command_line import at_least_one
from diffusion.denoiser import DiscreteDenoiser
from diffusion.schedules import Schedule
from evaluation.config import parse_config
from evaluation.run import Options, evaluate
from networks.unet import UNet
from restoration.dps import DPS
from restoration.sdedit import SDEdit

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.05


def mnist_prior(folder: Path) -> Path:
    """The released prior, or the network of its training configuration with random weights."""
    released = ROOT / "assets" / "ddpm_mnist.safetensors"
    if released.exists():
        return released
    options = yaml.safe_load((ROOT / "configs" / "train" / "ddpm_mnist.yaml").read_text())["model"]["init_args"]
    network = build(options["network"], UNet, where="network")
    schedule = build(options["schedule"], Schedule, where="schedule")
    denoiser = DiscreteDenoiser(
        network=network, schedule=schedule, prediction=options["prediction"], data_shape=tuple(options["data_shape"])
    )
    write_safetensors(folder / "prior.safetensors", network, describe_prior(denoiser, data="random"))
    return folder / "prior.safetensors"


@contextlib.contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Seconds spent in "network" (forward and backward) and in "methods" (restore), while the block runs."""
    seconds: dict[str, float] = defaultdict(float)
    patched: list[tuple[Any, str, Callable]] = []

    def clock(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            _wait()
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                _wait()
                seconds[label] += time.perf_counter() - start

        patched.append((owner, name, original))
        setattr(owner, name, timed)

    clock(UNet, "forward", "network")
    clock(torch.autograd, "grad", "network")  # DPS goes backward through the network, and through a little arithmetic
    for method in (SDEdit, DPS):
        clock(method, "restore", "methods")
    try:
        yield seconds
    finally:
        for owner, name, original in patched:
            setattr(owner, name, original)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=at_least_one, default=64)
    parser.add_argument("--steps", type=at_least_one, default=100)
    args = parser.parse_args()
    methods = {
        "sdedit": {"class_path": "restoration.sdedit.SDEdit", "init_args": {"start": 1.0, "steps": args.steps}},
        "dps": {"class_path": "restoration.dps.DPS", "init_args": {"steps": args.steps}},
    }
    table = Table(title=f"{args.images} images, {args.steps} steps", title_justify="left")
    for name in ("method", "total s", "network s", "in the method s", "evaluation s", "outside of the network", "goal"):
        table.add_column(name, justify="left" if name == "method" else "right")
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        prior = mnist_prior(Path(temporary))
        for name, method in methods.items():
            config = parse_config(
                {
                    "data": {"class_path": "benchmarks.random_images.RandomImages", "init_args": {"count": 256}},
                    "limit": args.images,
                    "tasks": {"box": {"degradation": "degradations.box_mask.BoxMask", "noise": {"sigma_255": 6}}},
                    "methods": {name: method},
                    "priors": {"default": {"path": str(prior)}},
                },
                "benchmark",
            )
            with clocks() as seconds, contextlib.redirect_stdout(None):
                start = time.perf_counter()
                evaluate(config, Options(output=Path(temporary) / name))
                total = time.perf_counter() - start
            network, inside = seconds["network"], seconds["methods"]
            share = 1 - network / total
            missed |= share > GOAL
            parts = (f"{s:.2f}" for s in (total, network, inside - network, total - inside))
            table.add_row(name, *parts, f"{100 * share:.1f} %", f"{100 * GOAL:.0f} %")
    Console(width=120).print(table)
    return int(missed)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
