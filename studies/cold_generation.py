"""What a cold restorer draws: python -m studies.cold_generation --prior PATH --data CLASS --features PATH --output DIR

Crosses --noise (added to the start, where it has such an option), --algorithm, --steps (network calls; 0: every
severity) and --estimated_noise (Gaussian family); for each setting FID, KID and Inception score against the training
images, the diversity of the set, and a grid of images. Row by row into table.csv: the same command again goes on, and
starts anew where the checkpoint, its weights or the training images changed.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import csv
import hashlib
import io
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from checkpoints.features import ClassifierFeatures, InceptionFeatures
from checkpoints.cold_restorer import LoadedColdRestorer
from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.image_range import to_uint8
from common.pictures import grid, png_bytes
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold import ALGORITHMS, Algorithm, cold_sample, severities_from
from diffusion.cold_starts.base import Start
from evaluation.generation.measures import metrics_of, quality, too_few
from evaluation.generation.reference import reference_features
from checkpoints.prior_options import add_prior_options, restorer_of_options
from metrics.features import Features
from metrics.set_diversity import set_diversity

HEADER = (
    "noise",
    "algorithm",
    "steps",
    "estimated_noise",
    "num_images",
    "fid",
    "fid_low",
    "fid_high",
    "kid_1000",
    "inception_score",
    "pixel_rmse",
    "feature_distance",
    "feature_dimensions",
    "seconds",
    "fingerprint",
)
SHOWN = 64


@dataclass(frozen=True)
class Setting:
    """How images are drawn: standard deviation added to the start (None: the start's own), algorithm, network calls (0:
    all severities), Gaussian option.
    """

    noise: float | None
    algorithm: Algorithm
    steps: int
    estimated_noise: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """As the first columns of the table."""
        return (
            "" if self.noise is None else f"{self.noise:g}",
            self.algorithm,
            str(self.steps),
            str(self.estimated_noise).lower(),
        )

    @property
    def name(self) -> str:
        """A file name."""
        return "_".join(
            part
            for part in ("" if self.noise is None else f"noise{self.noise:g}", self.algorithm, f"steps{self.steps}")
            if part
        ) + ("_estimated" if self.estimated_noise else "")


def start_of(loaded: LoadedColdRestorer, noise: float | None) -> Start:
    """The checkpoint's start with another noise; UserError where there is no start, or it has no such option."""
    if loaded.start is None:
        raise UserError("--prior has no start to generate from: it was trained with model.start null")
    if noise is None:
        return loaded.start
    spec = loaded.start.spec
    if "noise" not in vars(loaded.start):
        raise UserError(
            "--noise is for a start with the option noise, and the prior begins with"
            f" {spec['class_path'].rpartition('.')[2]}: leave it out"
        )
    start = build({**spec, "init_args": {**spec["init_args"], "noise": noise}}, Start, where="--noise")
    start.load(loaded.start.state())
    return start


def draw(
    loaded: LoadedColdRestorer,
    start: Start,
    setting: Setting,
    index: list[int],
    random: RandomStreams,
    device: torch.device,
) -> Tensor:
    """One image for each index, [B, C, H, W]: the same alone and in any batch."""
    restorer = loaded.restorer
    x, params = start.draw(random, index, restorer.family, restorer.data_shape, device)
    severities = severities_from(restorer.severities, setting.steps or None)
    return cold_sample(
        restorer, x, severities, params, algorithm=setting.algorithm, estimated_noise=setting.estimated_noise
    )


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m studies.cold_generation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_prior_options(parser, restorer=True, of="a checkpoint of ColdDiffusion that was trained with a start")
    parser.add_argument(
        "--data", required=True, help="class path of the data module whose training images are the reference"
    )
    parser.add_argument("--features", required=True, help="path of a classifier, or inception")
    parser.add_argument("--num_images", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--shown", type=int, default=SHOWN, help=f"images in the picture, small ones above {SHOWN}")
    parser.add_argument("--noise", type=float, nargs="+", default=[None], help="default: the start's own")
    parser.add_argument("--algorithm", choices=ALGORITHMS, nargs="+", default=["improved"])
    parser.add_argument("--steps", type=int, nargs="+", default=[0], help="network calls; 0: every severity")
    parser.add_argument("--estimated_noise", choices=("true", "false"), nargs="+", default=["false"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", required=True, type=Path)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.num_images < 4 or args.batch_size < 1 or args.shown < 1 or min(args.steps) < 0:
        raise UserError(
            f"--num_images must be at least 4, --batch_size and --shown 1 and --steps 0, got {args.num_images},"
            f" {args.batch_size}, {args.shown}, {min(args.steps)}"
        )
    device = torch.device(args.device)
    loaded = restorer_of_options(args, device)
    settings = [
        Setting(noise, algorithm, steps, estimated == "true")
        for noise, algorithm, steps, estimated in itertools.product(
            args.noise, args.algorithm, args.steps, args.estimated_noise
        )
    ]
    family = loaded.restorer.family
    if "true" in args.estimated_noise and not isinstance(family, GaussianNoiseFamily):
        raise UserError(
            f"--estimated_noise is for Gaussian noise, and the prior undoes {family.description}: leave it out"
        )
    if max(args.steps) > family.severities:
        raise UserError(
            f"--steps must be at most {family.severities}, the severities of {family.description}, got"
            f" {max(args.steps)}: 0 is all of them"
        )
    starts = {noise: start_of(loaded, noise) for noise in args.noise}
    data = build(args.data, ImageDataModule, where="--data")
    network = InceptionFeatures() if args.features == "inception" else ClassifierFeatures(path=args.features)
    network.check(loaded.restorer.data_shape)
    if tuple(data.shape) != tuple(loaded.restorer.data_shape):
        raise UserError(
            f"--data has images of {list(data.shape)}, and --prior draws {list(loaded.restorer.data_shape)}: make them"
            " equal"
        )
    folder = require_writable_folder(args.output, "--output")
    console = Console(stderr=True)
    if warning := too_few(args.num_images, network.dimension):
        console.print(f"warning: {warning}")
    data.prepare_data()
    network = network.to(device)
    reference = reference_features(data.images("train"), network)
    compared = hashlib.sha256(reference.features.numpy().tobytes()).hexdigest()[:8]
    adapted = f":{hashlib.sha256(loaded.fingerprint.encode()).hexdigest()[:8]}" if args.adapter else ""
    fingerprint = f"{loaded.fingerprint[:16]}:{args.weights}:{network.fingerprint[:8]}:{compared}:{args.seed}{adapted}"
    rows = {
        key: row
        for key, row in _read(folder / "table.csv").items()
        if row[-1] == fingerprint and row[4] == str(args.num_images)
    }
    for setting in settings:
        picture = folder / f"{setting.name}{'' if args.shown == SHOWN else f'_{args.shown}'}.png"
        if setting.cells in rows and picture.is_file():
            continue
        began = time.monotonic()
        features, pixels = [], []
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            for first in bar.track(range(0, args.num_images, args.batch_size), description=setting.name):
                index = list(range(first, min(args.num_images, first + args.batch_size)))
                images = to_uint8(draw(loaded, starts[setting.noise], setting, index, RandomStreams(args.seed), device))
                features.append(network.of(images))
                pixels.append(images.cpu())
        seconds = time.monotonic() - began
        drawn, shown = Features.joined(features), torch.cat(pixels)
        sheet = grid(shown[: args.shown].float() / 127.5 - 1, at_least=64 if args.shown <= SHOWN else 28)
        write_atomically(picture, png_bytes(sheet))
        found, spread = quality(metrics_of(network), drawn, reference), set_diversity(shown, drawn.features)
        score = found["inception_score"].value if "inception_score" in found.numbers else float("nan")
        diversity = (spread.pixel_rmse.value, spread.feature_distance.value, spread.feature_dimensions.value)
        fid, kid = found["fid"], found["kid"]
        numbers = (fid.value, fid.low, fid.high, 1000 * kid.value, score, *diversity, seconds)
        rows[setting.cells] = (*setting.cells, str(args.num_images), *(f"{v:.5g}" for v in numbers), fingerprint)
        _write(folder / "table.csv", list(rows.values()))
    table = Table(title=f"{args.num_images} images of {args.prior}, features {network.name}", title_justify="left")
    for name in HEADER[:-1]:
        table.add_column(name, justify="right")
    for setting in settings:
        table.add_row(*rows[setting.cells][:-1])
    Console(width=160 if not Console().is_terminal else None).print(table)


def _read(path: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The rows of a table by their setting; none where there is no such file or one of other columns."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [tuple(line) for line in csv.reader(file)]
    except FileNotFoundError:
        return {}
    return {line[:4]: line for line in lines[1:]} if lines and lines[0] == HEADER else {}


def _write(path: Path, rows: list[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    write_atomically(path, text.getvalue())


if __name__ == "__main__":
    run_cli(main)
