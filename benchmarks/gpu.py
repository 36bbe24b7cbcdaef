"""What a device does with everything that costs time here, in one table: ``benchmarks/gpu.sh``, ten minutes of a GPU.

    benchmarks/gpu.sh [--minutes 10] [--markdown] [--quick]

Rows, each timed for about the same share of the minutes:

- training step (forward, backward, fused AdamW) of the 35.7 M parameters of Ho et al.'s network on 3x32x32, beside
  diffusers' network with the same weights and denoising-diffusion-pytorch's at equal FLOPs, in float32, TF32 and
  bfloat16 (autocast), eager and compiled, contiguous and channels_last;
- the same network through train.py's trainer and callbacks;
- deep image prior on 16 pictures at once, DPS on 16 images.

"images/s" counts images that took a training step, an iteration or a restoration; "of peak" is FLOPs (counted; training
as three forward passes) over seconds, over those of a large matrix product measured here in the same precision;
"memory" is the peak of what the row itself allocates; "waits" is how often the host waited for the device in one call,
counted by torch's profiler (on a CPU, where nothing waits, how often it asked for a number). A library that is not
installed, or a row that fails, is a line that says so. Without a GPU: the
same on the CPU, smaller, eager, in two precisions.
"""

import common.late_torchmetrics  # noqa: I001  (before Lightning)
import common.torchvision_remedy  # noqa: F401

import argparse
import contextlib
import copy
import gc
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.random_images import RandomImages
from benchmarks.unet_vs_peers import FORMATS, Output, diffusers_config
from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health
from checkpoints.foreign.diffusers_config import unet_from_diffusers
from common.command_line import at_least_one
from common.compute import count_flops, matrix_peak, multiplies_bfloat16
from common.memory import fits
from common.random_streams import RandomStreams
from degradations.box_mask import BoxMask
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from diffusion.denoiser import DiscreteDenoiser
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Linear
from lightning_modules.ddpm import DDPM
from networks.unet import UNet
from networks.untrained.skip import SkipArchitecture
from restoration.dip import DIP
from restoration.dps import DPS
from restoration.stopping.fixed import FixedIterations

SIDE = 32
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
HEAD = ["what", "network", "precision", "flags", "images/s", "ms a call", "of peak", "memory GiB", "waits a call"]


@dataclass(frozen=True)
class Sizes:
    """Of everything that is timed."""

    width: int
    batch: int
    pictures: int
    side: int  # of the pictures that deep image prior is fitted to
    iterations: int
    steps: int  # of DPS
    seconds: float  # of each row


@dataclass
class Bench:
    """The device, its peaks, and the rows so far."""

    device: torch.device
    sizes: Sizes
    rows: list[list[str]] = field(default_factory=list)

    def peak(self, dtype: torch.dtype, *, tf32: bool) -> float:
        with tf32_is(tf32):
            matrix_peak.cache_clear()  # float32 has two of them
            return matrix_peak(self.device.type, dtype, torch.get_num_threads())

    def add(
        self,
        names: tuple[str, str, str, str],
        make: Callable[[], Callable[[], object]],
        *,
        images: float,
        flops: float = 0.0,
        peak: float = 0.0,
    ) -> None:
        """Time what `make` gives, which does `images` images and `flops` FLOPs a call; a row for it, or for what went
        wrong.
        """
        found: list[str] = []

        def measured() -> None:
            found[:] = self._measured(make, images, flops, peak)

        try:
            enough = fits(measured)
        except Exception as error:  # one row that fails leaves the others
            found[:] = [" ".join(f"{type(error).__name__}: {error}".split())[:60], *["-"] * 4]
        else:
            if not enough:
                found[:] = ["too little memory", *["-"] * 4]
        self.rows.append([*names, *found])
        print(" | ".join(self.rows[-1]), flush=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _measured(
        self, make: Callable[[], Callable[[], object]], images: float, flops: float, peak: float
    ) -> list[str]:
        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        call = make()
        for _ in range(2):  # compiles, and chooses its kernels
            call()
        self._wait()
        memory = f"{(torch.cuda.max_memory_allocated(self.device) - before) / 2**30:.2f}" if cuda else "-"
        waits = waits_of(call, self.device)
        count, began = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - began < self.sizes.seconds:
            call()
            count += 1
            if count % 10 == 0:
                self._wait()  # the queue would run ahead of the clock
        self._wait()
        seconds = (time.perf_counter() - began) / count
        share = f"{100 * flops / seconds / peak:.0f} %" if flops and peak else "-"
        return [f"{images / seconds:.4g}", f"{1000 * seconds:.4g}", share, memory, str(waits)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def tf32_is(wanted: bool) -> Iterator[None]:
    """float32 products and convolutions in TF32 or not, on a GPU; torch's own default differs for the two."""
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


def waits_of(call: Callable[[], object], device: torch.device) -> int:
    """How often the host waits for the device in one call; on a CPU how often it asks for a number."""
    names = WAITS if device.type == "cuda" else ("aten::_local_scalar_dense",)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as seen:
        call()
    counts = {e.key: e.count for e in seen.key_averages()}
    found = sum(counts.get(name, 0) for name in names)
    # the profiler itself waits once when it ends
    return max(0, found - 1) if device.type == "cuda" else found


def networks(bench: Bench) -> tuple[dict[str, nn.Module], list[str]]:
    """(networks by name, those whose library is missing), of equal FLOPs, on the CPU."""
    config = diffusers_config(bench.sizes.width)
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"ours": UNet(**unet_from_diffusers(config))}
    missing = []
    if find_spec("diffusers") is not None:
        from diffusers.models.unets.unet_2d import UNet2DModel

        found["diffusers"] = Output(UNet2DModel(**config))
    else:
        missing.append("diffusers")
    if find_spec("denoising_diffusion_pytorch") is not None:
        from denoising_diffusion_pytorch import Unet

        x, clock = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1)
        probe = count_flops(lambda: Unet(dim=64, dim_mults=(1, 2, 2, 2), channels=3)(x, clock))
        dim = max(8, 8 * round(64 * (count_flops(lambda: found["ours"](x, clock)) / probe) ** 0.5 / 8))
        found[f"lucidrains {dim}"] = Unet(dim=dim, dim_mults=(1, 2, 2, 2), channels=3)
    else:
        missing.append("denoising-diffusion-pytorch")
    return found, missing


def training(
    network: nn.Module, bench: Bench, *, dtype: torch.dtype, form: str, compiled: bool
) -> Callable[[], object]:
    """One training step on random images, ready to be called again and again."""
    device = bench.device
    network = copy.deepcopy(network).to(device).train()
    network.to(memory_format=FORMATS[form])  # pyright: ignore[reportCallIssue]  (torch's overloads leave it out)
    if compiled:
        network.compile()
    x = torch.randn(bench.sizes.batch, 3, SIDE, SIDE, device=device).contiguous(memory_format=FORMATS[form])
    clock, noise = torch.rand(len(x), device=device) * 999, torch.randn_like(x)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = (network(x, clock).float() - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def training_rows(bench: Bench, *, compiles: bool) -> None:
    cuda, batch = bench.device.type == "cuda", bench.sizes.batch
    found, missing = networks(bench)
    x, clock = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1)
    flops = {name: 3 * batch * count_flops(lambda n=n: n(x, clock)) for name, n in found.items()}
    kinds = [("float32", torch.float32, False)]
    kinds += [("TF32", torch.float32, True)] if cuda else []
    kinds += [("bfloat16", torch.bfloat16, True)] if multiplies_bfloat16(bench.device.type) else []
    for precision, dtype, tf32 in kinds:
        peak = bench.peak(dtype, tf32=tf32)
        settings = [("contiguous", False), ("channels_last", False)]
        settings += [("channels_last" if cuda else "contiguous", True)] if compiles else []
        for form, compiled in settings:
            for name, network in found.items():
                flags = form + (", compiled" if compiled else "")
                with tf32_is(tf32):
                    bench.add(
                        ("training step", name, precision, flags),
                        lambda n=network, d=dtype, f=form, c=compiled: training(n, bench, dtype=d, form=f, compiled=c),
                        images=batch,
                        flops=flops[name],
                        peak=peak,
                    )
                torch.compiler.reset()
    for name in missing:
        bench.rows.append(["training step", name, "-", "-", "not installed", *["-"] * 4])


def through_trainer(bench: Bench, precision: str, steps: int) -> Callable[[], object]:
    """A run of so many steps as train.py makes it: each call is a whole run."""
    network = networks(bench)[0]["ours"]
    module = DDPM(network=network, schedule=Linear(), data_shape=[3, SIDE, SIDE], sampler=DDIM(), channels_last=True)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            trainer = pl.Trainer(
                accelerator="auto",
                devices=1,
                precision=precision,  # pyright: ignore[reportArgumentType]
                max_steps=steps,
                default_root_dir=folder,
                logger=False,
                log_every_n_steps=50,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                gradient_clip_val=1.0,
                callbacks=[EMA(), FiniteLoss(every_n_steps=50), Health()],
            )
            trainer.fit(module, datamodule=RandomImages(size=(3, SIDE, SIDE), batch_size=bench.sizes.batch))

    return run


def dip(bench: Bench, *, bf16: bool) -> Callable[[], object]:
    sizes = bench.sizes
    x = torch.rand(sizes.pictures, 3, sizes.side, sizes.side, device=bench.device) * 2 - 1
    m = measure(
        x, degradation=Identity(), noise=GaussianNoise(sigma_255=25), index=range(len(x)), random=RandomStreams(0)
    )
    stopping = FixedIterations(iterations=sizes.iterations)
    recipe = SkipArchitecture(preset="denoising" if sizes.side >= 96 else "small")
    method = DIP(architecture=recipe, iterations=sizes.iterations, stopping=stopping, bf16=bf16)
    return lambda: method.restore(m, num_samples=1, random=RandomStreams(0))


def dps(bench: Bench, *, bf16: bool) -> Callable[[], object]:
    sizes, network = bench.sizes, networks(bench)[0]["ours"]
    prior = DiscreteDenoiser(network=network, schedule=Linear(), prediction="epsilon", data_shape=(3, SIDE, SIDE))
    prior = prior.to(bench.device).eval()
    x = torch.rand(sizes.pictures, 3, SIDE, SIDE, device=bench.device) * 2 - 1
    m = measure(
        x,
        degradation=BoxMask(size=SIDE // 2),
        noise=GaussianNoise(sigma_255=10),
        index=range(len(x)),
        random=RandomStreams(0),
    )
    method = DPS(prior=prior, steps=sizes.steps)

    def restore() -> None:
        with torch.autocast(bench.device.type, dtype=torch.bfloat16, enabled=bf16):
            method.restore(m, num_samples=1, random=RandomStreams(0))

    return restore


def other_rows(bench: Bench) -> None:
    sizes, half = bench.sizes, multiplies_bfloat16(bench.device.type)
    steps = 100 if bench.device.type == "cuda" else 2
    bench.add(
        (f"train.py, {steps} steps", "ours", "bfloat16" if half else "float32", "EMA, health"),
        lambda: through_trainer(bench, "bf16-mixed" if half else "32-true", steps),
        images=steps * sizes.batch,
    )
    name = f"DIP, {sizes.pictures} of 3x{sizes.side}x{sizes.side}, {sizes.iterations} iterations"
    for bf16 in (False, True) if half else (False,):
        precision = "bfloat16" if bf16 else "float32"
        bench.add((name, "skip", precision, ""), lambda b=bf16: dip(bench, bf16=b), images=sizes.pictures)
    name = f"DPS, {sizes.pictures} of 3x{SIDE}x{SIDE}, {sizes.steps} steps"
    for bf16 in (False, True) if half else (False,):
        precision = "bfloat16" if bf16 else "float32"
        bench.add((name, "ours", precision, ""), lambda b=bf16: dps(bench, bf16=b), images=sizes.pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long all of it takes (default: 10)")
    parser.add_argument("--batch", type=at_least_one, help="images of a training step (default: 128, on a CPU 16)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing compiled: does it run")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    # some 30 rows; compiling and warming up take the larger half
    each = args.minutes  # in seconds
    batch = args.batch or (128 if cuda else 16)
    sizes = Sizes(width=128, batch=batch, pictures=16, side=256, iterations=100, steps=20, seconds=each)
    if not cuda:  # minutes as well, and of the same kind
        sizes = Sizes(width=128, batch=batch, pictures=2, side=64, iterations=20, steps=2, seconds=each / 10)
    if args.quick:
        sizes = Sizes(width=8, batch=2, pictures=2, side=32, iterations=2, steps=2, seconds=0.0)
    bench = Bench(device, sizes)
    began = time.perf_counter()
    training_rows(bench, compiles=cuda and not args.quick)
    other_rows(bench)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    parameters = sum(p.numel() for p in networks(bench)[0]["ours"].parameters())
    title = (
        f"{name}; torch {torch.__version__}; {parameters / 1e6:.1f} M parameters, {sizes.batch} images of"
        f" 3x{SIDE}x{SIDE}; {time.perf_counter() - began:.0f} s in all"
    )
    print()
    if args.markdown:
        lines = [HEAD, ["---"] * len(HEAD), *bench.rows]
        print(title + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
        return
    table = Table(*HEAD, title=title, title_justify="left")
    for row in bench.rows:
        table.add_row(*row)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
