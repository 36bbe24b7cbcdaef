"""What each switch of the network is worth: ``python -m benchmarks.unet_switches [--quick] [--width 64] [--rounds N]
[--compile] [--markdown]``.

Every switch takes turns with the same network without it, on the same weights and batch (3x32x32 images, Ho et al.'s
layout); the ratio is the median over the rounds of (seconds without / seconds with), with the smallest and the largest.
Training is forward, backward and fused AdamW; sampling is the network without gradients. With OMP_NUM_THREADS=1 on a
CPU the seconds are those of the process. The last column: largest difference of the output from float64's.

--compile adds torch.compile to the switches (its first call takes minutes on a CPU).
"""

import common.torchvision_remedy  # noqa: F401, I001
from typing import Any, cast

import argparse
import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.side_by_side import compare, machine, paired, parsed, show, sizes_of, spread
from benchmarks.unet_vs_peers import sampling, training
from common.command_line import at_least_one
from common.compute import precisions
from networks.layers import GroupNorm
from networks.unet import UNet


class PlainGroupNorm(nn.GroupNorm):
    """torch's own kernel in every case."""


def build(width: int, device: torch.device) -> UNet:
    """Ho et al.'s layout with an output that is not zero."""
    torch.manual_seed(0)
    network = UNet(in_channels=3, channels=width)
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim > 1 and not p.any():
                nn.init.normal_(p, std=p[0].numel() ** -0.5)
    return network.to(device)


def with_plain_norm(network: UNet) -> UNet:
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, GroupNorm):
            module.__class__ = cast(Any, PlainGroupNorm)
    return network


def switches(
    network: UNet, x: Tensor, clock: Tensor, kind: str, dtype: torch.dtype, *, compiled: bool
) -> dict[str, tuple[tuple[nn.Module, Tensor], ...]]:
    """Switch -> (network and images without it, with it)."""
    last = x.contiguous(memory_format=torch.channels_last)
    other: UNet = copy.deepcopy(network)
    other.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's overloads leave it out)
    found: dict[str, tuple[tuple[nn.Module, Tensor], ...]] = {"channels_last": ((network, x), (other, last))}
    if x.device.type == "cpu" and dtype == torch.bfloat16:
        found["normalisation, in channels_last"] = ((with_plain_norm(other), last), (other, last))
    if kind == "training":
        again = copy.deepcopy(network)
        again.checkpoint_gradients = True
        found["checkpoint_gradients"] = ((network, x), (again, x))
    if compiled:
        fast = copy.deepcopy(network)
        fast.compile()
        found["compile"] = ((network, x), (fast, x))
    return found


def bfloat16_alone(network: UNet, x: Tensor, clock: Tensor, make: Callable, rounds: int) -> list[float]:
    found = compare(
        {"a": make(network, x, clock, torch.float32), "b": make(copy.deepcopy(network), x, clock, torch.bfloat16)},
        x.device,
        rounds,
    )
    return paired(found["a"], found["b"])


def error(network: nn.Module, x: Tensor, clock: Tensor, dtype: torch.dtype, exact: Tensor) -> str:
    with torch.inference_mode(), torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return f"{float((network.eval()(x, clock).double() - exact).abs().max()):.1e}"


HEAD = ["what", "precision", "switch", "without / with", "largest error without", "with"]


def measure(width: int, batch: int, rounds: int, *, compiled: bool) -> list[list[str]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(width, device)
    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    clock = torch.linspace(0, 999, batch).round().to(device)
    with torch.inference_mode():
        exact = copy.deepcopy(network).double().eval()(x.double(), clock.double())
    rows = []
    for kind, make in (("training", training), ("sampling", sampling)):
        for dtype in precisions(device.type):
            name = str(dtype).removeprefix("torch.")
            for switch, pair in switches(network, x, clock, kind, dtype, compiled=compiled).items():
                errors = ["", ""] if kind == "training" else [error(n, given, clock, dtype, exact) for n, given in pair]
                copies = pair if kind == "sampling" else [(copy.deepcopy(n), given) for n, given in pair]
                steps = {
                    side: make(n, given, clock, dtype)
                    for side, (n, given) in zip(("without", "with"), copies, strict=True)
                }
                found = compare(steps, device, rounds)
                ratios = paired(found["without"], found["with"])
                rows.append([kind, name, switch, spread(ratios), *errors])
        if torch.bfloat16 in precisions(device.type):
            ratios = bfloat16_alone(copy.deepcopy(network), x, clock, make, rounds)
            rows.append([kind, "bfloat16", "autocast (against float32)", spread(ratios), "", ""])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--width", type=at_least_one, default=None, help="channels of the first level (default: 128, on a CPU 64)"
    )
    parser.add_argument("--batch", type=at_least_one, default=16)
    parser.add_argument("--rounds", type=at_least_one, default=None, help="default: 20 on a GPU, 5 on a CPU")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    args = parsed(parser)
    width, batch, rounds = sizes_of(args)
    rows = measure(width, batch, rounds, compiled=args.compile)
    print(f"{machine()}; torch {torch.__version__}; width {width}, {batch} images of 3x32x32, {rounds} rounds")
    title = "medians; a ratio above 1: the switch makes it faster"
    show(HEAD, rows, markdown=args.markdown, title=title, columns=150)


if __name__ == "__main__":
    main()
