"""What degrading a batch costs: ``python -m benchmarks.degradation_cost [--quick] [--rounds N] [--batch N]
[--markdown]``.

Every family of severities, at random severities of a batch, against one forward pass of the small MNIST network
(configs/train/ddpm_mnist.yaml; with three channels at 32x32 pixels for families of colour images) on the same batch.
The two take turns in every round; the share is the median over the rounds of (seconds of the family / seconds of the
forward pass), with and without drawing what is random. Goal: below 10 %. With OMP_NUM_THREADS=1 on a CPU the seconds
are those of the process, so that other work on the machine does not count.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import statistics
from collections.abc import Callable

import torch

from benchmarks.side_by_side import compare, paired, parsed, show
from common.command_line import at_least_one
from degradations.base import Shape
from degradations.severity.animorph import Animorph
from degradations.severity.base import SeverityFamily
from common.compute import precisions
from degradations.severity.desaturation import Desaturation
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask, GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation
from degradations.severity.snow import Snow
from networks.unet import UNet

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
HEAD = [
    "family",
    "images",
    "applied",
    "drawn and applied",
    "share, float32",
    "with drawing",
    "share, bfloat16",
    "with drawing",
]


class NaturalMorph(Animorph):
    """Blends into made-up images, so that no data set is needed; what it costs is the same."""

    def _others(self, shape: Shape):
        from datamodules.store import MemoryStore, everything

        return everything(
            MemoryStore(
                torch.randint(256, (1000, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
            )
        )


def families() -> list[tuple[SeverityFamily, Shape]]:
    """Each with the constants of its data set."""
    return [
        (GaussianBlur(), GREY),
        (GaussianMask(), GREY),
        (CoveringMask(steps=200, kernel_std=0.1), GREY),
        (Pixelation(), GREY),
        (GaussianNoiseFamily(), GREY),
        (NaturalMorph(other={"class_path": "made up"}), GREY),
        (Snow(), GREY),
        (GaussianBlur(data="cifar10"), COLOUR),
        (GaussianMask(data="cifar10"), COLOUR),
        (Pixelation(data="cifar10"), COLOUR),
        (Snow(), COLOUR),
        (Desaturation(), COLOUR),
    ]


def network(channels: int) -> UNet:
    """The network of configs/train/ddpm_mnist.yaml, 1.6 M parameters."""
    torch.manual_seed(0)
    return UNet(
        in_channels=channels, channels=48, multipliers=[1, 2], blocks=1, attention=[1], groups=8, patch=2
    ).eval()


def measure(batch: int, rounds: int) -> list[list[str]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {shape[0]: network(shape[0]).to(device) for shape in (GREY, COLOUR)}
    rows = []
    for family, shape in families():
        generator = torch.Generator(device).manual_seed(0)
        x = torch.rand(batch, *shape, device=device, generator=generator) * 2 - 1
        t = torch.randint(1, family.severities + 1, (batch,), device=device, generator=generator)
        params = family.sample(batch, shape, generator)

        def apply(family=family, x=x, t=t, params=params) -> None:
            family(x, t, params)

        def draw_and_apply(family=family, x=x, t=t, shape=shape, generator=generator) -> None:
            family(x, t, family.sample(batch, shape, generator))

        def forward(dtype: torch.dtype, x=x, t=t, shape=shape) -> Callable[[], None]:
            def step() -> None:
                with (
                    torch.inference_mode(),
                    torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
                ):
                    networks[shape[0]](x, t.float())

            return step

        # A forward pass before each of the two: it leaves the caches as cold for one as for the other.
        steps = {
            "applied": apply,
            "float32": forward(torch.float32),
            "drawn": draw_and_apply,
        }
        if torch.bfloat16 in precisions(device.type):
            steps["bfloat16"] = forward(torch.bfloat16)
        found = compare(steps, device, rounds)
        shares = []
        for precision in ("float32", "bfloat16"):
            for side in ("applied", "drawn"):
                if precision not in found:  # no instructions for it
                    shares.append("")
                    continue
                share = statistics.median(paired(found[side], found[precision]))
                shares.append(f"{100 * share:.1f} %")
        times = [f"{1000 * statistics.median(found[side]):.2f} ms" for side in ("applied", "drawn")]
        name = type(family).__name__ if not isinstance(family, NaturalMorph) else "Animorph"
        rows.append([name, "x".join(map(str, (batch, *shape))), *times, *shares])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=at_least_one, default=64)
    parser.add_argument("--rounds", type=at_least_one, default=20)
    args = parsed(parser)
    batch, rounds = (2, 1) if args.quick else (args.batch, args.rounds)
    rows = measure(batch, rounds)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"{name}; torch {torch.__version__}; {batch} images, {rounds} rounds")
    title = "share of a forward pass of the small MNIST network; goal: below 10 %"
    show(HEAD, rows, markdown=args.markdown, title=title, columns=160)


if __name__ == "__main__":
    main()
