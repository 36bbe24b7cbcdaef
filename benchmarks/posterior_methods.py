"""What posterior methods cost beside their network's calls: ``python -m benchmarks.posterior_methods [--quick]
[--images N] [--samples N] [--steps N] [--rounds N] [--methods NAMES] [--markdown]``.

Every method restores the same measurements (super-resolution x4 of random 28x28 images with noise; RePaint a box
without noise) with the MNIST network, at the same number of steps. All take turns in every round. "outside": 1 -
seconds in the network's forward and backward passes / seconds of the restoration, the median over the rounds; goal:
below 5 % at 100 steps. "deepinv / ours": the ratio within a round of the seconds of deepinv's method at as many network
calls, by examples/deepinv_samplers.py; goal: 1 or more. Seconds are those of the process and, in the network, of its
thread (OMP_NUM_THREADS=1, on a CPU), so that other work on the machine does not count.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.evaluation_overhead import mnist_prior
from checkpoints.load import load_prior
from common.command_line import at_least_one
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from diffusion.denoiser import Denoiser
from networks.unet import UNet
from restoration.base import Method
from restoration.daps import DAPS
from restoration.ddnm import DDNM
from restoration.ddrm import DDRM
from restoration.diffpir import DiffPIR
from restoration.dps import DPS
from restoration.drp_denoiser import DenoisingDRP
from restoration.pigdm import PiGDM
from restoration.plug_and_play import PlugAndPlay
from restoration.pnp_flow import PnPFlow
from restoration.red_diff import REDDiff
from restoration.repaint import RePaint
from restoration.score_ald import ScoreALD
from restoration.sdedit import SDEdit

GOAL = 0.05
#: What is timed as the network: DPS goes backwards through a little arithmetic besides.
NETWORK = ((UNet, "forward"), (torch.autograd, "grad"))
#: (prior, steps) -> a method of about so many network calls.
METHODS: dict[str, Callable[[Denoiser, int], Method]] = {
    "sdedit": lambda prior, steps: SDEdit(prior=prior, start=1.0, steps=steps),
    "dps": lambda prior, steps: DPS(prior=prior, steps=steps),
    "dps, a scale": lambda prior, steps: DPS(prior=prior, steps=steps, relative_scale=8.0),
    "score_ald": lambda prior, steps: ScoreALD(prior=prior, steps=steps, repeats=1),
    "repaint": lambda prior, steps: RePaint(prior=prior, steps=steps, jump_repeats=1),
    "ddrm": lambda prior, steps: DDRM(prior=prior, steps=steps),
    "ddnm": lambda prior, steps: DDNM(prior=prior, steps=steps),
    "pigdm": lambda prior, steps: PiGDM(prior=prior, steps=steps),
    "diffpir": lambda prior, steps: DiffPIR(prior=prior, steps=steps),
    "daps": lambda prior, steps: DAPS(prior=prior, steps=max(1, steps // 5)),
    "red_diff": lambda prior, steps: REDDiff(prior=prior, steps=steps),
    "pnp_flow": lambda prior, steps: PnPFlow(prior=prior, steps=steps + 1, draws=1),
    "plug_and_play": lambda prior, steps: PlugAndPlay(prior=prior, steps=steps),
    "drp_denoiser": lambda prior, steps: DenoisingDRP(prior=prior, iterations=steps),
}


def peers() -> dict[str, Callable[[Denoiser, int], Method]]:
    """deepinv's methods by the names of ours; none where it is not installed."""
    try:
        from examples.deepinv_samplers import DeepinvDDRM, DeepinvDiffPIR, DeepinvDPS
    except ImportError:
        return {}
    return {
        "dps": lambda prior, steps: DeepinvDPS(prior=prior, steps=steps),
        "ddrm": lambda prior, steps: DeepinvDDRM(prior=prior, steps=steps),
        "diffpir": lambda prior, steps: DeepinvDiffPIR(prior=prior, steps=steps),
    }


@contextlib.contextmanager
def clock() -> Iterator[list[float]]:
    """Seconds of this thread in the network: its forward passes, and gradients through them."""
    spent: list[float] = [0.0]
    before: list[tuple[Any, str, Callable]] = [(owner, name, getattr(owner, name)) for owner, name in NETWORK]

    def timed(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[0] += time.thread_time() - start

        return call

    for owner, name, function in before:
        setattr(owner, name, timed(function))
    try:
        yield spent
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def seconds_of(method: Method, measurement: Measurement, samples: int) -> tuple[float, float]:
    """(all, in the network) of a restoration."""
    with clock() as spent:
        start = time.process_time()
        method.restore(measurement, num_samples=samples, random=RandomStreams(0))
        return time.process_time() - start, spent[0]


def measurements(images: int) -> dict[str, Measurement]:
    """Of random images: what they show does not change how long they take."""
    random = RandomStreams(0)
    x = 2 * random.uniform("images", 0, 0, (images, 1, 28, 28)) - 1
    tasks = {
        "super-resolution": (AveragePool(factor=4), GaussianNoise(sigma=0.1)),
        "box": (BoxMask(size=14), GaussianNoise(sigma=0)),
    }
    return {
        name: measure(x, degradation=degradation, noise=noise, index=list(range(images)), random=random)
        for name, (degradation, noise) in tasks.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=at_least_one, default=16)
    parser.add_argument("--samples", type=at_least_one, default=4)
    parser.add_argument("--steps", type=at_least_one, default=100)
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--methods", default=",".join(METHODS).replace(", ", " "), help="with commas between them")
    parser.add_argument("--quick", action="store_true", help="two images, two steps, one round: that it runs")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.images, args.samples, args.steps, args.rounds = 2, 1, 5, 1
    chosen = {name.replace(", ", " "): name for name in METHODS}
    unknown = [name for name in args.methods.split(",") if name not in chosen]
    if unknown:
        parser.error(f"--methods: there is no '{unknown[0]}'; there are {', '.join(chosen)}")
    names, theirs, given = [chosen[name] for name in args.methods.split(",")], peers(), measurements(args.images)
    with tempfile.TemporaryDirectory() as temporary:
        prior = load_prior(mnist_prior(Path(temporary))).denoiser
    ours = {name: METHODS[name](prior, args.steps) for name in names}
    others = {name: theirs[name](prior, ours[name].calls().nfe) for name in names if name in theirs}
    times: dict[str, list[tuple[float, float, float | None]]] = {name: [] for name in names}
    for number in range(args.rounds + (not args.quick)):
        for name in names:
            task = given["box" if name == "repaint" else "super-resolution"]
            samples = 1 if ours[name].deterministic else args.samples
            total, network = seconds_of(ours[name], task, samples)
            peer = seconds_of(others[name], task, samples)[0] if name in others else None
            if number or args.quick:  # the first round warms up
                times[name].append((total, network, peer))
    rows, missed = [], False
    for name, found in times.items():
        share = statistics.median(1 - network / total for total, network, _ in found)
        ratios = [peer / total for total, _, peer in found if peer is not None]
        missed |= share > GOAL or bool(ratios and statistics.median(ratios) < 1)
        each = statistics.median(total for total, *_ in found) / args.images
        cost = ours[name].calls()
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})" if ratios else ""
        rows.append([name, str(cost.nfe), str(cost.backwards), f"{each:.3f}", f"{100 * share:.1f} %", ratio])
    show(rows, f"{args.images} images x {args.samples} samples, {args.steps} steps", markdown=args.markdown)
    return int(missed and not args.quick)


def show(rows: list[list[str]], title: str, *, markdown: bool) -> None:
    head = ["method", "calls", "backwards", "s an image", "outside", "deepinv / ours"]
    if markdown:
        lines = [title, "", *(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])]
        print("\n".join(lines))
        return
    table = Table(title=title, title_justify="left")
    for name in head:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
