"""Compares stopping criteria on the same fits of a deep image prior: python -m studies.stopping_study --config
configs/studies/NAME.yaml --output DIR

    python -m studies.stopping_study --config configs/studies/dip_stopping.yaml --output results/dip_stopping
    ... --share 0/2        one half of the fits, another process takes 1/2; the same command again does what is missing
    ... --table            only the tables of what is there

Criteria that leave the target alone watch one fit of the measurement together; each of the others gets fits of its own.
The gap of a criterion is the PSNR of the best averaged iterate of the plain fit on the same measurement with the same
network seed (the oracle), minus that of its own answer.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import itertools
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from common.build import check_options
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.image_range import sigma_to_255, to_float, to_uint8
from common.plain_warnings import plain_warnings
from common.picture_files import read_8_bits
from common.picture_formats import PictureError
from common.pictures import grid, png_bytes
from common.random_streams import RandomStreams
from degradations.base import Degradation
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import Noise
from studies.stopping_tables import write_tables
from common.yaml_files import override, read_yaml
from metrics.distortion import ssim
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.settings import DIPSettings
from restoration.stopping.base import StoppingCriterion, Watch, images_mean
from restoration.stopping.staged import StagedWatch


@dataclass(frozen=True)
class Study:
    """What a study's file says. images: {name: {path, crop | shrink}}; crop: the middle square of that side; shrink:
    means of blocks, to that side.
    """

    title: str
    images: dict[str, Any]
    noises: dict[str, Noise]
    criteria: dict[str, StoppingCriterion]
    fit: DIPSettings
    seeds: list[int]
    degradation: Degradation | None = None


@dataclass(frozen=True)
class Job:
    """One image with one noise and one network seed, fitted for one group of criteria that share a target."""

    image: str
    noise: str
    seed: int
    group: str
    criteria: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"{self.image}-{self.noise}-{self.seed}-{self.group}.json"


def read_study(paths: list[Path], changes: list[str]) -> Study:
    """The study in a file, with KEY=VALUE changes; UserError for what does not fit."""
    content: dict[str, Any] = {}
    for path in paths:
        content = {**content, **read_yaml(path)}
    for change in changes:
        key, _, value = change.partition("=")
        content = override(content, key, value)
    study = Study(**check_options(Study, content, where="--config"))
    for name, criterion in study.criteria.items():
        try:
            criterion.check_iterations(study.fit.iterations)
        except UserError as error:
            raise UserError(f"criteria.{name}: {error}, as --set fit.iterations=NUMBER") from error
    return study


def read_image(name: str, spec: dict[str, Any]) -> Tensor:
    """float32 [1, C, H, W] in [-1, 1]: the picture, cropped or shrunk; UserError where it is missing or too small."""
    path = Path(spec["path"])
    if not path.exists():
        raise UserError(
            f"images.{name}: there is no picture at '{path}': unpack the data and run from the project's folder, or"
            f" change images.{name}.path"
        )
    try:
        picture = read_8_bits(path, "grey" if spec.get("grey", True) else "colour")
    except PictureError as error:
        raise UserError(f"images.{name}: '{path}' {error.predicate}") from error
    side: Any = spec.get("crop") or spec.get("shrink")
    if side and min(picture.size) < side:
        raise UserError(
            f"images.{name}: the picture has {picture.size[0]} x {picture.size[1]} pixels, fewer than {side}: give a"
            " smaller crop or shrink"
        )
    if side is not None and spec.get("crop"):
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    elif side is not None and spec.get("shrink"):
        picture = picture.resize((side, side), Image.Resampling.BOX)
    pixels = np.array(picture)
    return to_float(torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()))[None]


class Runner:
    """Runs the jobs of a study and writes one file for each."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.settings, self.criteria, self.noises, self.degradation = (
            study.fit,
            study.criteria,
            study.noises,
            study.degradation or Identity(),
        )
        self.images = {n: read_image(n, s) for n, s in study.images.items()}

    def measurement(self, image: str, noise: str) -> Measurement:
        """The same for every criterion and network seed: the noise is keyed by the place of the image in the study."""
        index = [list(self.images).index(image)]
        return measure(
            self.images[image],
            degradation=self.degradation,
            noise=self.noises[noise],
            index=index,
            random=RandomStreams(0),
        )

    def jobs(self) -> list[Job]:
        """Seeds outermost, so that a study that is stopped early has all images."""
        image, noise = next(iter(self.images)), next(iter(self.noises))
        m, random = self.measurement(image, noise), RandomStreams(0)
        plain = tuple(
            n
            for n, c in self.criteria.items()
            if _shares_target(c.watch(m, random=random, iterations=self.settings.iterations), m)
        )
        groups = {"plain": plain, **{n: (n,) for n in self.criteria if n not in plain}}
        return [
            Job(i, n, s, g, c)
            for s, n, i, (g, c) in itertools.product(self.study.seeds, self.noises, self.images, groups.items())
        ]

    def path(self, job: Job) -> Path:
        return self.folder / "jobs" / job.file

    def run(self, job: Job) -> None:
        measurement = self.measurement(job.image, job.noise)
        truth = cast(Tensor, measurement.truth)  # it was measured here
        random = RandomStreams(1000 + job.seed)
        leader, *others = job.criteria
        fit = DIPFit(measurement, settings=self.settings, stopping=self.criteria[leader], random=random)
        watches = {
            leader: fit.watch,
            **{
                n: self.criteria[n].watch(measurement, random=random, iterations=self.settings.iterations)
                for n in others
            },
        }
        records = {n: _Record(average=w.average) for n, w in watches.items()}
        curves: dict[str, list[float]] = {"raw": [], "averaged": []}
        optimizer, began = fit.optimizer(), time.perf_counter()
        asked = 0.0  # seconds for the criteria that are not the fit's own
        while True:
            fit.losses().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ended = fit.observe()
            errors = {
                "raw": float(images_mean((fit.output - truth).square() / 4)),
                "averaged": float(images_mean((fit.average - truth).square() / 4)),
            }
            for name, value in errors.items():
                curves[name].append(-10 * np.log10(value))
            for name in others:
                start = time.perf_counter()
                records[name].see(
                    watches[name].update(fit.iteration, fit.output, fit.average),
                    fit,
                    time.perf_counter() - began - asked,
                )
                took = time.perf_counter() - start
                asked, records[name].own = asked + took, records[name].own + took
            records[leader].follow(fit, time.perf_counter() - began - asked)
            if fit.iteration >= self.settings.iterations or (ended and all(r.stopped for r in records.values())):
                break
        fit.close()
        seconds = time.perf_counter() - began - asked
        records |= {f"{n}_one_pass": r.one_pass for n, r in records.items() if r.one_pass is not None}
        rows = [self._row(n, r, watches[n.removesuffix("_one_pass")], truth, fit, seconds) for n, r in records.items()]
        noisy = (
            float(images_mean((measurement.y - truth).square() / 4))
            if measurement.y.shape == truth.shape
            else float("nan")
        )
        monitored = (
            {n: [round(v, 7) for v in rows_[0]] for n, rows_ in fit.curves().items()} if job.group != "plain" else {}
        )
        oracle = {k: {"psnr": max(v), "iteration": int(np.argmax(v)) + 1} for k, v in curves.items()}
        content = {
            "image": job.image,
            "noise": job.noise,
            "seed": job.seed,
            "group": job.group,
            "sigma_255": sigma_to_255(measurement.sigma),
            "noisy_psnr": -10 * np.log10(noisy),
            "oracle": oracle,
            "iterations": fit.iteration,
            "seconds": seconds,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "rows": rows,
            "curves": {k: [round(v, 4) for v in values] for k, values in curves.items()},
            "monitored": monitored,
        }
        if job.seed == self.study.seeds[0]:
            tiles = [
                truth,
                measurement.y if measurement.y.shape == truth.shape else truth,
                *(r.answer for r in records.values() if r.answer is not None),
            ]
            picture = grid(torch.cat(tiles), columns=len(tiles), at_least=64)
            write_atomically(self.folder / "pictures" / job.file.replace(".json", ".png"), png_bytes(picture))
        write_atomically(self.path(job), json.dumps(content).encode())

    def _row(
        self, name: str, record: "_Record", watch: Watch, truth: Tensor, fit: DIPFit, seconds: float
    ) -> dict[str, Any]:
        answer = record.answer if record.answer is not None else (fit.average if watch.average else fit.output)
        error = float(images_mean((answer - truth).square() / 4))
        return {
            "criterion": name,
            "starred": self.criteria[name.removesuffix("_one_pass")].uses_truth,
            "psnr": -10 * np.log10(error),
            "ssim": float(ssim(to_uint8(answer), to_uint8(truth))),
            "iterations": record.stopped or fit.iteration,
            "stopped": bool(record.stopped),
            "answer_at": record.at or fit.iteration,
            "seconds": (record.seconds or seconds) + record.own,
            "own_seconds": record.own,
            "reason": watch.reason(0) if record.stopped else "the limit was reached",
        }


@dataclass
class _Record:
    """What a criterion has chosen so far."""

    average: bool
    answer: Tensor | None = None
    at: int = 0
    stopped: int = 0
    seconds: float = 0.0
    own: float = 0.0
    one_pass: "_Record | None" = None  # what the answer would be without the second pass

    def see(self, verdict: Any, fit: DIPFit, seconds: float) -> None:
        """A criterion beside the fit's own."""
        if self.stopped:
            return
        if bool(verdict.improved[0]):
            self.answer, self.at = (fit.average if self.average else fit.output).clone(), fit.iteration
        if bool(verdict.stop[0]):
            self.stopped, self.seconds = fit.iteration, seconds

    def follow(self, fit: DIPFit, seconds: float) -> None:
        """The fit's own criterion."""
        watch = fit.watch
        if isinstance(watch, StagedWatch) and self.one_pass is None and int(watch.stage[0]) == watch.count:
            self.one_pass = _Record(self.average, self.answer, self.at, fit.iteration, seconds)
        if not self.stopped:
            self.answer, self.at = fit.answer, int(fit.kept_at[0])
            if bool(fit.stopped[0]):
                self.stopped, self.seconds = fit.iteration, seconds


def _shares_target(watch: Watch, measurement: Measurement) -> bool:
    return watch.y is measurement.y and watch.weight is None


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m studies.stopping_study", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="a study, configs/studies/*.yaml; later files win",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="jobs/*.json, table.csv, table.md, pictures/"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one entry: --set fit.iterations=500"
    )
    parser.add_argument("--share", default="0/1", metavar="I/N", help="every N-th job, from number I (default: all)")
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="only the fits whose file name (image-noise-seed-criterion) contains this",
    )
    parser.add_argument("--table", action="store_true", help="make the tables of what is there, run nothing")
    return parser


def compared_with(criteria: list[str]) -> str:
    """The criterion that the table subtracts from the others: es_wmv, or the first after an oracle where it is not
    there.
    """
    return next((c for c in ("es_wmv", *criteria) if c in criteria and c != "oracle"), criteria[0])


def main() -> None:
    args = make_parser().parse_args()
    with plain_warnings():
        study = read_study(args.config, args.set)
    require_writable_folder(args.output, "--output")
    if not args.table:
        number, _, of = args.share.partition("/")
        if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
            raise UserError(f"--share must be I/N with 0 <= I < N, got '{args.share}'")
        runner = Runner(study, args.output)
        left = [j for j in runner.jobs()[int(number) :: int(of)] if args.only in j.file and not runner.path(j).exists()]
        with Progress() as progress:
            task = progress.add_task("fits", total=len(left))
            for job in left:
                runner.run(job)
                progress.advance(task)
    for path in write_tables(args.output, title=study.title, against=compared_with(list(study.criteria))):
        print(path)


if __name__ == "__main__":
    run_cli(main)
