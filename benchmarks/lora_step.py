"""What an adapter costs: ``python -m benchmarks.lora_step [--quick] [--rounds N] [--batch_size N] [--network
mnist|cifar10] [--precision bf16]``.

Both sides take turns on the same weights, images and noise, and the ratio is the median over the pairs. With
OMP_NUM_THREADS=1 on a CPU the seconds are those of the process, else those of the wall. Rank 8 on attention and
convolutions:

- forward and backward with an adapter, against the same of the network with frozen weights (the gradient of its input
  alone): the target is 1.3 at most;
- a whole step of training: with all weights trained against the adapter alone, and peft's own layers against ours;
- a call of the prior with a merged adapter against the prior without (the target: nothing), and with the adapter
  beside it.

Prints a table; the ratio is second / first.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from peft import LoraConfig, inject_adapter_in_model
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.training_step import seconds_of
from common.build import build
from common.command_line import at_least_one
from networks.lora import add_adapter, merge_adapters, use_adapters
from networks.lora_settings import ATTENTION_AND_CONVOLUTIONS, LoRASettings, chosen
from networks.unet import UNet

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def network_of(name: str, quick: bool) -> UNet:
    """The network of a shipped config, with weights that are nowhere zero."""
    torch.manual_seed(0)
    spec = yaml.safe_load((ROOT / "configs" / "train" / f"ddpm_{name}.yaml").read_text())["model"]["init_args"][
        "network"
    ]
    if quick:
        spec["init_args"] |= {"channels": 16, "multipliers": [1, 2], "blocks": 1, "groups": 8}
    network = build(spec, UNet, where="network")
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return network


def step(
    network: nn.Module,
    x: torch.Tensor,
    time: torch.Tensor,
    half: bool,
    *,
    input_gradient: bool = False,
    optimiser: bool = False,
) -> Callable[[], object]:
    """Forward, backward and, where asked for, the optimiser's step of what is trained."""
    trained = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=1e-6, fused=True) if optimiser else None
    x = x.clone().requires_grad_(input_gradient)

    def run() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = network(x, time).float().square().mean()
        loss.backward()
        if adam is not None:
            adam.step()
        for p in trained:
            p.grad = None
        x.grad = None

    return run


def pairs(
    first: Callable[[], object], second: Callable[[], object], rounds: int, repeats: int, device: torch.device
) -> tuple[float, float, float]:
    """(median seconds of the first, of the second, median ratio second / first) over interleaved rounds whose order
    alternates.
    """
    first()  # warm-up
    second()
    found = []
    for k in range(rounds):
        calls = (first, second) if k % 2 == 0 else (second, first)
        seconds = [seconds_of(call, device, repeats) for call in calls]
        found.append(tuple(seconds) if k % 2 == 0 else tuple(reversed(seconds)))
    return (
        statistics.median(a for a, _ in found),
        statistics.median(b for _, b in found),
        statistics.median(b / a for a, b in found),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network and one round: whether it runs, not what it measures"
    )
    parser.add_argument("--rounds", type=at_least_one, default=9)
    parser.add_argument("--repeats", type=at_least_one, default=2, help="steps in one timing")
    parser.add_argument("--batch_size", type=at_least_one, default=64)
    parser.add_argument("--rank", type=at_least_one, default=8)
    parser.add_argument("--network", choices=tuple(SHAPES), default="mnist", help="of configs/train/ddpm_NAME.yaml")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.repeats, args.batch_size = 1, 1, 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = args.precision == "bf16"

    def make(kind: str) -> nn.Module:
        net = network_of(args.network, args.quick).to(device)
        if kind in ("frozen", "full"):
            return net.requires_grad_(kind == "full")
        settings = LoRASettings(layers=chosen(net, ATTENTION_AND_CONVOLUTIONS), rank=args.rank, alpha=float(args.rank))
        if kind == "peft":
            return inject_adapter_in_model(
                LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=list(settings.layers)), net
            )
        add_adapter(net, settings)
        return net

    x = torch.randn(args.batch_size, *SHAPES[args.network], device=device)
    time = torch.randint(0, 1000, (args.batch_size,), device=device).float()
    frozen, lora = make("frozen"), make("lora")
    count = sum(p.numel() for p in lora.parameters() if p.requires_grad), sum(p.numel() for p in frozen.parameters())
    title = (
        f"adapters of rank {args.rank}: {args.network}, {device.type}, {torch.get_num_threads()} threads, batch"
        f" {args.batch_size}, {args.precision}, "
    )
    title += f"{count[0]:,} of {count[1]:,} numbers trained, torch {torch.__version__}"
    table = Table("what", "first", "second", "ratio", title=title)

    def row(name: str, first: Callable[[], object], second: Callable[[], object]) -> None:
        a, b, ratio = pairs(first, second, args.rounds, args.repeats, device)
        table.add_row(name, f"{1e3 * a:.2f} ms", f"{1e3 * b:.2f} ms", f"{ratio:.3f}")
        print(f"{name}: {1e3 * a:.2f} ms, {1e3 * b:.2f} ms, ratio {ratio:.3f}", flush=True)

    base = step(frozen, x, time, half, input_gradient=True)
    row("forward + backward: frozen / adapter", base, step(lora, x, time, half))
    row("forward + backward: frozen / peft's layers", base, step(make("peft"), x, time, half))
    whole = step(lora, x, time, half, optimiser=True)
    row("step: adapter / all weights", whole, step(make("full"), x, time, half, optimiser=True))
    frozen.eval()
    lora.eval()
    merged = copy.deepcopy(lora)
    merge_adapters(merged)
    use_adapters(lora, {"default": 1.0})

    def call(net: nn.Module) -> Callable[[], object]:
        @torch.no_grad()
        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                net(x, time)

        return run

    row("call: prior / merged", call(frozen), call(merged))
    row("call: prior / adapter beside it", call(frozen), call(lora))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
