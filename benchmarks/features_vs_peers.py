"""Features, statistics and FID of sets of images beside clean-fid and torchmetrics, with the same network: ``python -m
benchmarks.features_vs_peers [--images N] [--rounds N]``.

The network is the classifier of CIFAR-10 in assets/ on random 32x32 images, so that what surrounds it counts; two sets,
as a FID has. Against clean-fid from folders of PNG files (its own reading and batches, without resizing), against
torchmetrics from tensors in memory (its sums). Each begins every other round; the ratio is peer / ours in CPU seconds
of the process, above 1 ours is faster; the FIDs are compared. Before the rounds ours alone goes through a tenth of the
files and then through all: what the process grew by in between is what memory costs that depends on their number.
Prints a table and ends with code 1 where ours is slower than 0.95 of a peer.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from checkpoints.features import ClassifierFeatures
from common.command_line import at_least_one
from evaluation.distribution import _features, read_all
from evaluation.image_files import write_png
from metrics.fid import frechet_distance
from metrics.moments import Moments

BATCH = 250


class AsModule(nn.Module):
    """The network as the peers take it: uint8 or float images in 0 .. 255 to features."""

    def __init__(self, network: ClassifierFeatures) -> None:
        super().__init__()
        self.network, self.num_features = network, network.dimension

    def forward(self, x: Tensor) -> Tensor:
        return self.network.of(x.round().to(torch.uint8)).features


def ours_from_files(network: ClassifierFeatures, folders: list[Path], limit: int | None = None) -> float:
    sets = []
    for folder in folders:
        files = sorted(folder.glob("*.png"))[:limit]
        shapes = [(3, 32, 32)] * len(files)
        read = lambda part, files=files, shapes=shapes: read_all(files[part], shapes[part])  # noqa: E731
        sets.append(_features(network, len(files), read).moments)
    return frechet_distance(*sets)


def clean_fid(network: ClassifierFeatures, folders: list[Path]) -> float:
    from cleanfid.fid import frechet_distance as distance
    from cleanfid.fid import get_files_features

    sets = []
    for folder in folders:
        files = sorted(map(str, folder.glob("*.png")))
        model = AsModule(network)
        found = get_files_features(
            files,
            model,
            num_workers=0,
            batch_size=BATCH,
            device=torch.device("cpu"),
            custom_fn_resize=lambda image: image.astype(np.float32),
            verbose=False,
        )
        sets += [found.mean(0), np.cov(found, rowvar=False)]
    return float(distance(*sets))


def ours_from_tensors(network: ClassifierFeatures, sets: list[Tensor]) -> float:
    return frechet_distance(*(Moments.of(network.of_all(images, batch_size=BATCH).features) for images in sets))


def torchmetrics_fid(network: ClassifierFeatures, sets: list[Tensor]) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=AsModule(network))
    for real, images in zip((True, False), sets, strict=True):
        for part in images.split(BATCH):
            metric.update(part, real=real)
    return float(metric.compute())


def growth(network: ClassifierFeatures, folders: list[Path], images: int) -> float:
    """MB that the peak of this process grows by from a tenth of the images to all."""
    peaks = []
    for limit in (max(2 * BATCH, images // 10), images):
        ours_from_files(network, folders, limit)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
    return peaks[1] - peaks[0]


def seconds(call: Callable[[], float]) -> tuple[float, float]:
    begin = time.process_time()
    value = call()
    return time.process_time() - begin, value


Timed = tuple[float, float]  # seconds, value


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], *, first: int) -> tuple[Timed, Timed]:
    """Both, ours first where `first` is 0: whoever begins finds colder memory."""
    calls = (ours, theirs)
    timed = {k: seconds(calls[k]) for k in (first, 1 - first)}
    return timed[0], timed[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features_vs_peers", description=__doc__)
    parser.add_argument("--images", type=at_least_one, default=2000, help="of each set (default: %(default)s)")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="default: %(default)s")
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randint(0, 256, (args.images, 3, 32, 32), dtype=torch.uint8, generator=generator) for _ in range(2)]
    sets[1] = (sets[1] // 2 + 60).to(torch.uint8)
    network = ClassifierFeatures(path="assets/classifier_cifar10.safetensors")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(k) for k in range(2)]
        for folder, images in zip(folders, sets, strict=True):
            folder.mkdir()
            for k, image in enumerate(images):
                write_png(folder / f"{k:05d}.png", image)
        contenders = {
            "from PNG files": (
                lambda: ours_from_files(network, folders),
                "clean-fid",
                lambda: clean_fid(network, folders),
            ),
            "from tensors": (
                lambda: ours_from_tensors(network, sets),
                "torchmetrics",
                lambda: torchmetrics_fid(network, sets),
            ),
        }
        table = Table(title=f"two sets of {args.images} images of 32x32, CPU seconds", title_justify="left")
        for head in ("what", "ours", "peer", "seconds", "peer / ours", "FID ours", "FID peer"):
            table.add_column(head, justify="left" if head in ("what", "peer") else "right")
        grown = growth(network, folders, args.images)
        slower = False
        for what, (ours, peer, theirs) in contenders.items():
            pairs = [in_turns(ours, theirs, first=k % 2) for k in range(args.rounds)]
            ratios = [b[0] / a[0] for a, b in pairs]
            ratio = statistics.median(ratios)
            slower |= ratio < 0.95
            mine, other = (statistics.median(p[k][0] for p in pairs) for k in (0, 1))
            around = f"{ratio:.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
            table.add_row(
                what, f"{mine:.2f}", peer, f"{other:.2f}", around, f"{pairs[0][0][1]:.6g}", f"{pairs[0][1][1]:.6g}"
            )
    Console(width=120).print(table)
    print(f"peak of this process from a tenth of the files to all of them: {grown:+.0f} MB")
    sys.exit(int(slower))


if __name__ == "__main__":
    main()
