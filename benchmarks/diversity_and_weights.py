"""What guidance and weights cost: ``python -m benchmarks.diversity_and_weights [--quick] [--rounds N] [--images N]
[--steps N]``.

Both sides take turns in every round, and the ratio second / first is the median over the rounds, with the smallest and
the largest. With OMP_NUM_THREADS=1 on a CPU the seconds are those of the process, else those of the wall:

- a step of DPS and of DDRM with restoration/diversity.py around it against one without, sets of 8 samples, by
  assets/ddpm_mnist.safetensors (the target: less than 1.03), and what is computed besides, alone;
- an epoch of training images as one of four processes reads them, 60,000 of 28x28, with weights of groups against
  without (the target: 1), and the order of an epoch alone.

What the guidance costs is below what a busy machine lets one see in whole steps; alone it is seen.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.training_step import seconds_of
from checkpoints.load import load_prior
from common.command_line import at_least_one
from common.random_streams import RandomStreams
from datamodules.loader import ResumableLoader
from datamodules.reweighting import Reweighting
from datamodules.store import MemoryStore, everything
from degradations.average_pool import AveragePool
from degradations.base import Degradation
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from diffusion.denoiser import Prediction
from restoration.base import Method
from restoration.ddrm import DDRM
from restoration.diversity import Diversity
from restoration.dps import DPS
from restoration.posterior import Problem

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 8
TIMES = 1000  # of the prior's training
TASKS: dict[str, Degradation] = {"box": BoxMask(size=14), "super-resolution x4": AveragePool(factor=4)}


def turns(
    first: Callable[[], object], second: Callable[[], object], rounds: int, device: torch.device
) -> tuple[float, float, list[float]]:
    """Median seconds of both, and the ratios second / first of all rounds; the order alternates."""
    first()  # warm-up
    second()
    found = []
    for k in range(rounds):
        pair = [seconds_of(call, device, 1) for call in ((first, second) if k % 2 == 0 else (second, first))]
        found.append(pair if k % 2 == 0 else pair[::-1])
    return (
        statistics.median(a for a, _ in found),
        statistics.median(b for _, b in found),
        sorted(b / a for a, b in found),
    )


def restoring(method: Method, measurement: Measurement) -> Callable[[], object]:
    return lambda: method.restore(measurement, num_samples=SAMPLES, random=RandomStreams(0))


def guiding(method: Diversity, measurement: Measurement) -> Callable[[], object]:
    """What one run of the guided method computes beside the network and the plain one, without gradients."""
    problem = Problem(measurement, SAMPLES, RandomStreams(0))
    x = torch.randn(len(measurement.y) * SAMPLES, *measurement.operator.input_shape).to(measurement.y)
    found = Prediction(x0=x.clamp(-1, 1), eps=x)
    steps = list(itertools.pairwise(method.inner.levels()))

    def given(x: torch.Tensor, sigma: float) -> Prediction:
        del x, sigma
        return found

    return lambda: [method.around(problem, given, sigma, after)(x, sigma) for sigma, after in steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of little: whether it runs")
    parser.add_argument("--rounds", type=at_least_one, default=7, help="in which all take turns")
    parser.add_argument("--images", type=at_least_one, default=4, help="sets of 8 samples at once")
    parser.add_argument("--steps", type=at_least_one, default=4, help="of each restoration; the last is never guided")
    args = parser.parse_args()
    if args.steps > TIMES:
        parser.error(f"--steps must lie in 1 .. {TIMES}, got {args.steps}")
    count = 60_000
    if args.quick:
        args.rounds, args.images, args.steps, count = 1, 1, 2, 1000
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = load_prior(ROOT / "assets" / "ddpm_mnist.safetensors").denoiser.to(device).requires_grad_(False)
    x = torch.rand(args.images, 1, 28, 28, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    title = f"{device.type}, {torch.get_num_threads()} threads, {args.images} sets of {SAMPLES}, {args.steps} steps"
    table = Table(
        "what", "first", "second", "ratio", "smallest .. largest", title=f"{title}, torch {torch.__version__}"
    )

    def row(name: str, first: Callable[[], object], second: Callable[[], object], rounds: int) -> None:
        a, b, ratios = turns(first, second, rounds, device)
        cells = (f"{1e3 * a:.2f} ms", f"{1e3 * b:.2f} ms", f"{statistics.median(ratios):.4f}")
        table.add_row(name, *cells, f"{ratios[0]:.4f} .. {ratios[-1]:.4f}")
        print(name, *cells, flush=True)

    for task, degradation in TASKS.items():
        m = measure(
            x,
            degradation=degradation,
            noise=GaussianNoise(sigma_255=6),
            index=list(range(args.images)),
            random=RandomStreams(0),
        )
        for kind in (DPS, DDRM):
            plain = kind(prior=prior, steps=args.steps)
            path = f"{kind.__module__}.{kind.__name__}"
            guided = Diversity(prior=prior, inner={"class_path": path, "init_args": {"steps": args.steps}})
            row(f"{kind.__name__}, {task}: plain / guided", restoring(plain, m), restoring(guided, m), args.rounds)
            alone = guiding(guided, m)
            row(f"{kind.__name__}, {task}: plain / guidance alone", restoring(plain, m), alone, args.rounds)

    group = torch.arange(count) % 10
    images = everything(MemoryStore(torch.zeros(count, 1, 28, 28, dtype=torch.uint8), label=group))
    rule = Reweighting(by="label", gamma=0.5)
    options = {"batch_size": 16, "seed": 0, "rank": 1, "world_size": 4}
    weighted = {"groups": group, "weights": rule.weights(torch.arange(count) % 11 % 10).clamp(min=0.1)}

    def epoch(more: dict) -> Callable[[], object]:
        loader = ResumableLoader(images, **options, **more)
        return lambda: sum(len(batch.image) for batch in loader)

    def order(more: dict) -> Callable[[], object]:
        loader = ResumableLoader(images, **options, **more)
        return lambda: loader.order(0)

    row("epoch of images: plain / weighted", epoch({}), epoch(weighted), 3 * args.rounds)
    row("order of an epoch: plain / weighted", order({}), order(weighted), 3 * args.rounds)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
