"""What each switch of a training step is worth: ``python -m benchmarks.training_step [--quick] [--rounds N]
[--precision bf16-mixed]``.

Both sides of a switch take turns on the same weights and batch, and the ratio is the median over the pairs: what else
the machine does meets both alike. With OMP_NUM_THREADS=1 on a CPU the seconds are those of the process, else those of
the wall.

- step of the optimiser alone: fused, foreach and one tensor after the other;
- update of an average of weights alone: foreach against tensor by tensor, and two averages against one;
- a whole step through Lightning as train.py runs it, against the same arithmetic in a bare loop;
- the same with and without callbacks/health.py, and with and without callbacks/finite_loss.py;
- on a GPU, pixels resting on the device against pixels copied at every step.

Prints a table; above 1 means that the first of the two is faster. The network is that of configs/train/ddpm_mnist.yaml
on random 28x28 images.
"""

import common.late_torchmetrics  # noqa: I001  (before Lightning)
import common.torchvision_remedy  # noqa: F401
from typing import Any

import argparse
import contextlib
import copy
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.random_images import RandomImages
from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health
from common.averaging import WeightAverage
from common.batch import Batch
from common.build import build
from common.command_line import at_least_one
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.ddpm import DDPM
from networks.unet import UNet

ROOT = Path(__file__).resolve().parent.parent


def module(quick: bool, **options: Any) -> DDPM:
    torch.manual_seed(0)
    spec = yaml.safe_load((ROOT / "configs" / "train" / "ddpm_mnist.yaml").read_text())["model"]["init_args"]["network"]
    network = (
        build(spec, UNet, where="network")
        if not quick
        else UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    )
    return DDPM(network=network, schedule=Cosine(), data_shape=[1, 28, 28], sampler=DDIM(), prediction="v", **options)


def now(device: torch.device) -> float:
    """Seconds, after the device is done. With one thread on a CPU: of the process, so that other processes on the
    machine do not count; else of the wall.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    start = now(device)
    for _ in range(repeats):
        call()
    return (now(device) - start) / repeats


def pairs(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """(median seconds of the first, of the second, median ratio second / first) over interleaved rounds; the order
    within a round alternates.
    """
    if rounds > 1:
        first()  # warm-up
        second()
    found = [(first(), second()) if k % 2 == 0 else tuple(reversed((second(), first()))) for k in range(rounds)]
    return (
        statistics.median(a for a, _ in found),
        statistics.median(b for _, b in found),
        statistics.median(b / a for a, b in found),
    )


def optimiser_step(network: torch.nn.Module, **kind: Any) -> Callable[[], object]:
    mine = copy.deepcopy(network)
    for p in mine.parameters():
        p.grad = torch.full_like(p, 1e-3)
    return torch.optim.AdamW(mine.parameters(), lr=1e-5, **kind).step


def average_update(network: torch.nn.Module, *, count: int = 1) -> Callable[[], object]:
    average = WeightAverage(network, [str(k) for k in range(count)])
    return lambda: average.update(*[0.999] * count)


def one_by_one(network: torch.nn.Module) -> Callable[[], object]:
    average = [p.detach().clone() for p in network.parameters()]

    @torch.no_grad()
    def update() -> None:
        for a, p in zip(average, network.parameters(), strict=True):
            a.lerp_(p, 1 - 0.999)

    return update


class Timer(pl.Callback):
    """Seconds per step of the steps after the third."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if trainer.global_step == 3 or trainer.global_step == trainer.max_steps:
            self.marks.append(now(pl_module.device))


def through_lightning(
    args: argparse.Namespace, callbacks: Callable[[], list[pl.Callback]], **data: Any
) -> Callable[[], float]:
    def run() -> float:
        timer = Timer()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            trainer = pl.Trainer(
                accelerator="auto",
                devices=1,
                precision=args.precision,
                max_steps=args.steps + 3,
                logger=CSVLogger(folder),
                log_every_n_steps=50,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                gradient_clip_val=1.0,
                callbacks=[*callbacks(), timer],
            )
            trainer.fit(module(args.quick), datamodule=RandomImages(batch_size=args.batch_size, **data))
        return (timer.marks[1] - timer.marks[0]) / args.steps

    return run


def bare_loop(args: argparse.Namespace, device: torch.device) -> Callable[[], float]:
    """The arithmetic of a step as a script would write it: loss, backward, clip, step, average."""
    model = module(args.quick).to(device)
    denoiser, parameters = model.denoiser, list(model.network.parameters())
    optimiser, average = torch.optim.AdamW(parameters, lr=2e-4, fused=True), WeightAverage(model.network)
    pixels = torch.randint(0, 256, (512, 1, 28, 28), dtype=torch.uint8, device=device)
    half = args.precision == "bf16-mixed"

    def step() -> None:
        image = pixels[torch.randint(0, 512, (args.batch_size,), device=device)].float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            time_ = denoiser.training_time(torch.rand(len(image), device=device))
            index = torch.zeros(len(image), dtype=torch.int64, device=device)
            loss = model._loss(Batch(image, index, index), torch.randn_like(image), time_, None).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update(0.999)

    for _ in range(3):
        step()
    return lambda: seconds_of(step, device, args.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network and few rounds: whether it runs, not what it measures"
    )
    parser.add_argument("--rounds", type=at_least_one, default=9)
    parser.add_argument("--steps", type=at_least_one, default=10, help="steps in one timing")
    parser.add_argument("--batch_size", type=at_least_one, default=32)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps, args.batch_size = 1, 2, 4
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = module(args.quick).network.to(device)
    table = Table(
        "switch",
        "first",
        "second",
        "ratio",
        title=(
            f"training step: {device.type}, {torch.get_num_threads()} threads, {args.precision},"
            f" {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters, batch {args.batch_size}, torch"
            f" {torch.__version__}"
        ),
    )

    def row(name: str, first: Callable[[], float], second: Callable[[], float]) -> None:
        a, b, ratio = pairs(first, second, args.rounds)
        table.add_row(name, f"{1e3 * a:.3f} ms", f"{1e3 * b:.3f} ms", f"{ratio:.3f}")
        print(f"{name}: {1e3 * a:.3f} ms against {1e3 * b:.3f} ms, ratio {ratio:.3f}", flush=True)

    def repeated(call: Callable[[], object]) -> Callable[[], float]:
        return lambda: seconds_of(call, device, args.steps)

    fused = repeated(optimiser_step(network, fused=True))
    row("AdamW: fused / foreach", fused, repeated(optimiser_step(network, foreach=True)))
    row("AdamW: fused / tensor by tensor", fused, repeated(optimiser_step(network, foreach=False)))
    row("average: foreach / tensor by tensor", repeated(average_update(network)), repeated(one_by_one(network)))
    row("average: one / two", repeated(average_update(network)), repeated(average_update(network, count=2)))
    whole = through_lightning(args, lambda: [EMA(), FiniteLoss(), Health()])
    row("step: train.py / bare loop", whole, bare_loop(args, device))
    row("step: with health / without", whole, through_lightning(args, lambda: [EMA(), FiniteLoss()]))
    row("step: with finite_loss / without", whole, through_lightning(args, lambda: [EMA(), Health()]))
    if device.type == "cuda":
        row(
            "pixels: on the device / on the host",
            through_lightning(args, lambda: [EMA()], keep_on_device=True),
            through_lightning(args, lambda: [EMA()], keep_on_device=False),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
