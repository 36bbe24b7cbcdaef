"""Our U-Net beside its peers: ``python -m benchmarks.unet_vs_peers [--quick] [--width 128] [--rounds N] [--compile]
[--markdown]``.

Peers: diffusers' UNet2DModel with the same weights (the layout of google/ddpm-cifar10-32), and
denoising-diffusion-pytorch's Unet, as wide as gives the FLOPs of ours. Measured: one training step (forward, backward,
fused AdamW) and the sampling of a batch (DDIM's arithmetic around the network; the cost of a step times 50), of 3x32x32
images, in float32 and bfloat16. "equal": both in plain memory format, eager. "best": each in the faster of contiguous
and channels_last, and compiled with --compile. bfloat16 is left out on a processor without instructions for it, where
it takes some fifty times as long.

All contenders take turns in every round; a ratio is the median over the rounds of (peer's seconds / our seconds) of the
same round, with the smallest and the largest. With OMP_NUM_THREADS=1 on a CPU the seconds are those of the process, so
that other work on the machine does not count. The share of the peak is FLOPs (counted; training as three forward
passes) over seconds, over that of a large matrix product measured in the same precision here.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.side_by_side import compare, machine, paired, parsed, show, sizes_of, spread
from checkpoints.foreign.diffusers_config import unet_from_diffusers
from checkpoints.foreign.diffusers_layout import state_dict_from_diffusers
from common.command_line import at_least_one
from common.compute import count_flops, matrix_peak, precisions
from networks.unet import UNet

STEPS = 50
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Contender:
    """A network by name, called as network(x, time) -> Tensor; flops of one forward pass of the batch."""

    name: str
    network: nn.Module
    flops: int


class Output(nn.Module):
    """diffusers' network as a function that gives a tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.network(x, time).sample


def diffusers_config(width: int) -> dict[str, Any]:
    """Of the network of google/ddpm-cifar10-32 at another width, as diffusers writes it."""
    return {
        "block_out_channels": [width, 2 * width, 2 * width, 2 * width],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 2,
        "attention_head_dim": None,
        "norm_eps": 1e-6,
        "norm_num_groups": min(32, width // 2),
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": 32,
        "act_fn": "silu",
    }


def contenders(width: int, x: Tensor, clock: Tensor) -> list[Contender]:
    """Ours, diffusers' with the same weights, and lucidrains' at equal FLOPs."""
    from denoising_diffusion_pytorch import Unet
    from diffusers.models.unets.unet_2d import UNet2DModel

    config = diffusers_config(width)
    torch.manual_seed(0)
    theirs = UNet2DModel(**config)
    ours = UNet(**unet_from_diffusers(config))
    ours.load_state_dict(state_dict_from_diffusers(theirs.state_dict(), config=config))
    found = [("ours", ours), ("diffusers", Output(theirs))]
    wanted = count_flops(lambda: ours(x, clock))
    # FLOPs grow with the square of the width: the multiple of 8 that is nearest.
    probe = count_flops(lambda: Unet(dim=64, dim_mults=(1, 2, 2, 2), channels=3)(x, clock))
    dim = max(8, 8 * round(64 * (wanted / probe) ** 0.5 / 8))
    found.append((f"lucidrains (dim {dim})", Unet(dim=dim, dim_mults=(1, 2, 2, 2), channels=3)))
    with torch.no_grad():
        difference = float((ours(x, clock) - Output(theirs)(x, clock)).abs().max())
    if not difference < 1e-4:
        raise RuntimeError(
            f"ours and diffusers' network with the same weights differ by {difference:.2g}: they must be equal to be"
            " compared"
        )
    return [Contender(name, network, count_flops(lambda n=network: n(x, clock))) for name, network in found]


def prepared(contender: Contender, form: str, x: Tensor, *, compiled: bool) -> tuple[nn.Module, Tensor]:
    network = copy.deepcopy(contender.network).to(x.device)
    network.to(memory_format=FORMATS[form])  # pyright: ignore[reportCallIssue]  (torch's overloads leave it out)
    if compiled:
        network.compile()
    return network, x.contiguous(memory_format=FORMATS[form])


def training(network: nn.Module, x: Tensor, clock: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """One step, ready to be called again and again."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    network.train()
    noise = torch.randn_like(x)

    def step() -> None:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = (network(x, clock).float() - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def sampling(network: nn.Module, x: Tensor, clock: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """One step of DDIM for the batch."""
    network.eval()

    def step() -> None:
        with torch.inference_mode():
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                noise = network(x, clock).float()
            x0 = (x - 0.5 * noise).clamp(-1, 1)
            (x0 + 0.25 * (x - x0) / 0.5).sum()

    return step


def measure(width: int, batch: int, rounds: int, *, compiled: bool) -> tuple[list[list[str]], list[str]]:
    """Rows of the table, and lines about the machine."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(batch, 3, 32, 32)
    clock = torch.linspace(0, 999, batch).round()
    field = contenders(width, x, clock)
    x, clock = x.to(device), clock.to(device)
    notes = [f"{machine()}; torch {torch.__version__}; width {width}, {batch} images of 3x32x32, {rounds} rounds"]
    notes += [
        f"{c.name}: {c.flops / batch / 1e9:.3f} GFLOP an image,"
        f" {sum(p.numel() for p in c.network.parameters()) / 1e6:.1f} M parameters"
        for c in field
    ]
    rows = []
    for dtype in precisions(device.type):
        peak = matrix_peak(device.type, dtype, torch.get_num_threads())
        notes.append(f"measured peak in {str(dtype).removeprefix('torch.')}: {peak / 1e9:.0f} GFLOP/s")
        for kind, make, passes in (("training step", training, 3), ("sampling step", sampling, 1)):
            formats = {c.name: _best_format(c, make, x, clock, dtype) for c in field}
            for setting in ("equal", "best"):
                steps, flags = {}, {}
                for c in field:
                    form = formats[c.name] if setting == "best" else "contiguous"
                    network, given = prepared(c, form, x, compiled=compiled and setting == "best")
                    flags[c.name] = form + (", compiled" if compiled and setting == "best" else "")
                    steps[c.name] = make(network, given, clock, dtype)
                found = compare(steps, device, rounds)
                for c in field:
                    seconds = statistics.median(found[c.name])
                    ratio = "1" if c.name == "ours" else spread(paired(found[c.name], found["ours"]))
                    share = passes * c.flops / seconds / peak
                    cost = f"{1000 * seconds:.0f} ms" if passes == 3 else f"{STEPS * seconds:.2f} s / {STEPS} steps"
                    rows.append(
                        [
                            kind,
                            str(dtype).removeprefix("torch."),
                            setting,
                            c.name,
                            flags[c.name],
                            cost,
                            ratio,
                            f"{100 * share:.0f} %",
                        ]
                    )
    return rows, notes


def _best_format(contender: Contender, make: Callable, x: Tensor, clock: Tensor, dtype: torch.dtype) -> str:
    steps = {}
    for form in FORMATS:
        network, given = prepared(contender, form, x, compiled=False)
        steps[form] = make(network, given, clock, dtype)
    found = compare(steps, x.device, 2)
    return min(found, key=lambda form: min(found[form]))


HEAD = ["what", "precision", "flags", "network", "memory format", "time", "peer / ours", "of peak"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--width",
        type=at_least_one,
        default=None,
        help="channels of the first level (default: 128, Ho's, on a GPU; 64 on a CPU)",
    )
    parser.add_argument("--batch", type=at_least_one, default=16)
    parser.add_argument("--rounds", type=at_least_one, default=None, help="default: 20 on a GPU, 5 on a CPU")
    parser.add_argument("--compile", action="store_true", help="each network compiled in the rows of best flags")
    args = parsed(parser)
    width, batch, rounds = sizes_of(args)
    rows, notes = measure(width, batch, rounds, compiled=args.compile)
    for note in notes:
        print(note)
    title = "medians; a ratio above 1: ours is faster"
    show(HEAD, rows, markdown=args.markdown, title=title, columns=170)


if __name__ == "__main__":
    main()
