"""Our deep image prior beside the published loop and deepinv: ``python -m benchmarks.deep_image_prior [--quick]
[--rounds N] [--curves] [--markdown]``.

Images per hour for 16 pictures of 64x64 with noise of 25 of 255, from the seconds of one iteration of one image (all
pictures, some iterations each):

- "ours": restoration.dip.DIP: on a CPU one picture per thread side by side, on a GPU 16 networks in one pass; in
  float32, and with the network in bfloat16;
- "published loop": the same network of torch's own layers, torch.optim.Adam, jitter of the input, averaged output, one
  picture after the other, float32;
- "deepinv, same network": deepinv.models.DeepImagePrior with that network; it has no jitter and no average;
- "deepinv, its own": the same with deepinv's ConvDecoder, as wide as gives the FLOPs of ours.

All contenders take turns in every round; a ratio is the median over the rounds of (contender's seconds / our seconds)
of the same round, with the smallest and the largest. All have torch's default number of threads. With OMP_NUM_THREADS=1
on a CPU the seconds are those of the process, so that other work on the machine does not count, and nothing runs side
by side.

--curves instead: PSNR of raw and averaged outputs along a fit, ours in both precisions and the published loop, mean
over pictures and seeds with the standard deviation between seeds: how alike the contenders are in quality.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import statistics
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.side_by_side import compare, machine, paired, parsed, show, spread
from common.command_line import at_least_one
from common.compute import count_flops, precisions
from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from networks.untrained.skip import SLOPE, SkipArchitecture
from restoration.dip import DIP, run
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.settings import DIPSettings, settings_for
from restoration.stopping.fixed import FixedIterations

PICTURES = ("astronaut", "chelsea", "coffee", "rocket")  # inside scikit-image's package
SIGMA_255 = 25


def pictures(count: int, size: int) -> Tensor:
    """float32 [count, 3, size, size] in [-1, 1]: squares of photographs, made smaller by 2, at places that are always
    the same.
    """
    import skimage.data

    images = []
    for k in range(count):
        photo = torch.from_numpy(getattr(skimage.data, PICTURES[k % len(PICTURES)])().copy()).permute(2, 0, 1)
        half = torch.nn.functional.avg_pool2d(to_float(photo)[None], 2)[0]
        generator = torch.Generator().manual_seed(k)
        top, left = (int(torch.randint(n - size + 1, (1,), generator=generator)) for n in half.shape[1:])
        images.append(half[:, top : top + size, left : left + size])
    return torch.stack(images)


def measured(count: int, size: int, device: torch.device) -> Measurement:
    x = pictures(count, size).to(device)
    return measure(
        x, degradation=Identity(), noise=GaussianNoise(sigma_255=SIGMA_255), index=range(count), random=RandomStreams(0)
    )


# The same network from torch's own layers.


def _block(recipe: SkipArchitecture, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    pad = [nn.ReflectionPad2d(kernel // 2)] if kernel > 1 else []
    return nn.Sequential(
        *pad, nn.Conv2d(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE, inplace=True)
    )


class _Scale(nn.Module):
    def __init__(self, recipe: SkipArchitecture, scale: int, inputs: int) -> None:
        super().__init__()
        down, up, skip = recipe.channels[scale], recipe.channels_up[scale], recipe.skip[scale]
        deepest = scale == len(recipe.channels) - 1
        self.skip = _block(recipe, inputs, skip, 1)
        self.down = nn.Sequential(_block(recipe, inputs, down, 3, 2), _block(recipe, down, down, 3))
        self.deeper = nn.Identity() if deepest else _Scale(recipe, scale + 1, down)
        width = skip + (down if deepest else recipe.channels_up[scale + 1])
        self.up = nn.Sequential(nn.BatchNorm2d(width), _block(recipe, width, up, 3), _block(recipe, up, up, 1))
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.cat([self.skip(x), self.upsample(self.deeper(self.down(x)))], 1))


def published_network(recipe: SkipArchitecture, *, check: bool = True) -> nn.Sequential:
    """The network of a recipe as the reference implementation builds it, from torch's layers; RuntimeError where it is
    not the same function as ours.
    """
    network = nn.Sequential(_Scale(recipe, 0, recipe.inputs), nn.Conv2d(recipe.channels_up[0], 3, 1), nn.Sigmoid())
    if check:
        ours = recipe.build(outputs=3)
        ours.reset([torch.Generator().manual_seed(0)])
        z = torch.rand(1, recipe.inputs, recipe.least, recipe.least)
        initial = [p.detach().clone() for p in network.parameters()]
        with torch.no_grad():
            for theirs, mine in zip(network.parameters(), ours.parameters(), strict=True):
                theirs.copy_(mine)
            difference = float((network(z) - ours(z)).abs().max())
            for p, value in zip(network.parameters(), initial, strict=True):
                p.copy_(value)
        if not difference < 1e-4:
            raise RuntimeError(
                f"ours and the published network with the same weights differ by {difference:.2g}: they must be equal"
                " to be compared"
            )
    return network


def published_loop(
    y: Tensor, recipe: SkipArchitecture, settings: DIPSettings, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(output, average) in [0, 1] after each iteration on one picture y [1, 3, H, W] in [-1, 1], as in the released
    notebook, without its prints and plots.
    """
    torch.manual_seed(seed)
    network = published_network(recipe, check=False).to(y.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    target = (y + 1) / 2
    z = torch.rand(1, recipe.inputs, *y.shape[2:], device=y.device) * 0.1
    saved, noise = z.detach().clone(), z.detach().clone()
    loss_of, average = nn.MSELoss(), None
    while True:
        optimizer.zero_grad()
        out = network(saved + noise.normal_() * settings.jitter)
        average = (
            out.detach() if average is None else average * settings.averaging + out.detach() * (1 - settings.averaging)
        )
        loss_of(out, target).backward()
        optimizer.step()
        yield out.detach(), average


# Contenders: called with nothing, they do some iterations on every picture.


@dataclass(frozen=True)
class Contender:
    name: str
    precision: str
    step: Callable[[], None]


def ours(m: Measurement, recipe: SkipArchitecture, iterations: int, *, bf16: bool) -> Callable[[], None]:
    method = DIP(architecture=recipe, iterations=iterations, stopping=FixedIterations(iterations=iterations), bf16=bf16)
    return lambda: method.restore(m, random=RandomStreams(0)) and None


def theirs(m: Measurement, recipe: SkipArchitecture, settings: DIPSettings, iterations: int) -> Callable[[], None]:
    def step() -> None:
        for k in range(len(m.y)):
            loop = published_loop(m.y[k : k + 1], recipe, settings, k)
            for _ in range(iterations):
                next(loop)

    return step


def of_deepinv(
    m: Measurement, network: nn.Module, z_size: list[int], settings: DIPSettings, iterations: int
) -> Callable[[], None]:
    import deepinv

    physics = deepinv.physics.Denoising()
    network = network.to(m.y.device)
    method = deepinv.models.DeepImagePrior(
        network, z_size, iterations=iterations, learning_rate=settings.learning_rate, re_init=True
    )

    def step() -> None:
        for k in range(len(m.y)):
            method((m.y[k : k + 1] + 1) / 2, physics)

    return step


def conv_decoder(size: int, flops: int) -> tuple[nn.Module, list[int], int]:
    """deepinv's ConvDecoder as wide as gives so many FLOPs, the size of its z, and its channels."""
    import deepinv

    def made(channels: int) -> tuple[nn.Module, list[int]]:
        return deepinv.models.ConvDecoder((3, size, size), in_size=(4, 4), channels=channels), [channels, 4, 4]

    probe, z_size = made(64)
    channels = max(8, 8 * round(64 * (flops / count_flops(lambda: probe(torch.randn(1, *z_size)))) ** 0.5 / 8))
    return (*made(channels), channels)


def field(
    m: Measurement, recipe: SkipArchitecture, settings: DIPSettings, iterations: int
) -> tuple[list[Contender], list[str]]:
    """The contenders, and lines about their networks."""
    size = m.y.shape[-1]
    network = published_network(recipe)
    flops = count_flops(lambda: network(torch.rand(1, recipe.inputs, size, size)))
    decoder, z_size, channels = conv_decoder(size, flops)
    found = [
        Contender("ours", "float32", ours(m, recipe, iterations, bf16=False)),
        Contender("published loop", "float32", theirs(m, recipe, settings, iterations)),
        Contender(
            "deepinv, same network",
            "float32",
            of_deepinv(m, network, [recipe.inputs, size, size], settings, iterations),
        ),
        Contender(
            f"deepinv, its own ({channels} channels)", "float32", of_deepinv(m, decoder, z_size, settings, iterations)
        ),
    ]
    if torch.bfloat16 in precisions(m.y.device.type):
        found.insert(1, Contender("ours", "bfloat16", ours(m, recipe, iterations, bf16=True)))
    count = sum(p.numel() for p in network.parameters())
    decoded = count_flops(lambda: decoder.cpu()(torch.randn(1, *z_size)))
    decoder.to(m.y.device)
    notes = [
        f"our network: {count} parameters, {flops / 1e9:.3f} GFLOP; deepinv's own:"
        f" {sum(p.numel() for p in decoder.parameters())}, {decoded / 1e9:.3f} GFLOP"
    ]
    return found, notes


HEAD = [
    "what",
    "precision",
    "ms of one iteration of one image",
    "images an hour",
    "seconds / ours in float32",
    "seconds / our best",
]


def table_of(
    m: Measurement, recipe: SkipArchitecture, settings: DIPSettings, iterations: int, rounds: int
) -> tuple[list[list[str]], list[str]]:
    """Rows of the table and lines about the machine."""
    device, threads = m.y.device, torch.get_num_threads()
    contenders, notes = field(m, recipe, settings, iterations)
    steps = {f"{c.name} {c.precision}": c.step for c in contenders}
    found = compare(steps, device, rounds)
    ours_f32 = found["ours float32"]
    ours_bf16 = found.get("ours bfloat16", ours_f32)
    best = ours_bf16 if statistics.median(ours_bf16) < statistics.median(ours_f32) else ours_f32
    rows = []
    for contender, seconds in zip(contenders, found.values(), strict=True):
        each = statistics.median(seconds) / len(m.y) / iterations
        texts = [spread(paired(seconds, reference)) for reference in (ours_f32, best)]
        rows.append(
            [
                contender.name,
                contender.precision,
                f"{1000 * each:.1f}",
                f"{3600 / each / settings.iterations:.0f}",
                *texts,
            ]
        )
    clock = "seconds of the process" if device.type == "cpu" and threads == 1 else "seconds of the wall"
    images = f"{len(m.y)} images of {m.y.shape[-1]}x{m.y.shape[-1]}, {settings.iterations} iterations to an image"
    first = (
        f"{machine()}; torch {torch.__version__}; {images}; measured: {iterations} iterations each, {rounds} rounds,"
        f" {clock}"
    )
    return rows, [first, *notes]


# Quality.


def psnr(u: Tensor, truth: Tensor) -> float:
    return float(-10 * (u - (truth + 1) / 2).square().mean().log10())


def curves(
    m: Measurement, recipe: SkipArchitecture, settings: DIPSettings, marks: list[int], seeds: int
) -> list[list[str]]:
    """Rows: PSNR at the marks, "raw / averaged", of each contender."""

    def fitted(seed: int, k: int, *, bf16: bool) -> Iterator[tuple[Tensor, Tensor]]:
        changed = DIPSettings(**{**vars(settings), "bf16": bf16, "iterations": marks[-1] + 1})
        fit = DIPFit(
            m.pick([k]),
            settings=changed,
            stopping=FixedIterations(iterations=marks[-1] + 1),
            random=RandomStreams(100 + seed),
        )
        for _ in run(fit):
            yield (fit.output + 1) / 2, (fit.average + 1) / 2

    makers = {
        ("ours", "float32"): lambda s, k: fitted(s, k, bf16=False),
        ("ours", "bfloat16"): lambda s, k: fitted(s, k, bf16=True),
        ("published loop", "float32"): lambda s, k: published_loop(m.y[k : k + 1], recipe, settings, s),
    }
    if torch.bfloat16 not in precisions(m.y.device.type):
        del makers["ours", "bfloat16"]
    assert m.truth is not None
    rows = []
    for (name, precision), make in makers.items():
        found = torch.zeros(seeds, len(m.y), len(marks), 2)
        for seed in range(seeds):
            for k in range(len(m.y)):
                items = make(seed, k)
                for at in range(1, marks[-1] + 1):
                    raw, average = next(items)
                    if at in marks:
                        found[seed, k, marks.index(at)] = torch.tensor(
                            [psnr(raw, m.truth[k]), psnr(average, m.truth[k])]
                        )
                cast(Generator, items).close()
        mean, spread = (
            found.mean((0, 1)),
            (found.mean(1).std(0) if seeds > 1 else torch.full((len(marks), 2), float("nan"))),
        )
        cells = [" / ".join(f"{mean[i, j]:.2f} ± {spread[i, j]:.2f}" for j in (0, 1)) for i in range(len(marks))]
        rows.append([name, precision, *cells])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=at_least_one, default=None, help="default: 16; 2 with --curves")
    parser.add_argument("--size", type=at_least_one, default=64, help="pixels of a side")
    parser.add_argument(
        "--preset", default=None, help="of networks.untrained.skip (default: that of restore.py at this size)"
    )
    parser.add_argument("--iterations", type=at_least_one, default=20, help="of every image in one round")
    parser.add_argument("--rounds", type=at_least_one, default=None, help="default: 20 on a GPU, 3 on a CPU")
    parser.add_argument("--curves", action="store_true", help="PSNR along the fits instead of seconds")
    parser.add_argument(
        "--marks", type=at_least_one, nargs="+", default=[100, 300, 600], help="iterations at which --curves looks"
    )
    parser.add_argument("--seeds", type=at_least_one, default=2, help="of --curves")
    args = parsed(parser)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = args.images or (2 if args.curves or args.quick else 16)
    size = 32 if args.quick else args.size
    m = measured(count, size, device)
    recipe = (
        SkipArchitecture(preset="small", channels=[8, 8], inputs=4)
        if args.quick
        else SkipArchitecture(preset=args.preset)
        if args.preset
        else None
    )
    settings = settings_for(m.operator, None, recipe)
    skip = cast(SkipArchitecture, settings.architecture)
    if args.curves:
        marks = [2, 4] if args.quick else sorted(args.marks)
        head = ["what", "precision", *[f"PSNR raw / averaged at {k}" for k in marks]]
        rows = curves(m, skip, settings, marks, args.seeds)
        notes = [
            f"{count} images of {size}x{size}, noise of {SIGMA_255} of 255, {args.seeds} seeds: mean ± standard"
            " deviation between seeds, in dB"
        ]
    else:
        head, rounds = HEAD, args.rounds or (1 if args.quick else 20 if device.type == "cuda" else 3)
        rows, notes = table_of(m, skip, settings, 2 if args.quick else args.iterations, rounds)
    for note in notes:
        print(note)
    title = None if args.curves else "medians; a ratio above 1: ours is faster"
    show(head, rows, markdown=args.markdown, title=title, columns=160, no_wrap=False)


if __name__ == "__main__":
    main()
