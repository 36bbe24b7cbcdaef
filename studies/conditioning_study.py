"""What a conditioning image does to the training of a diffusion model: python -m studies.conditioning_study --config
configs/studies/dip_in_training.yaml --output DIR

Every variant is trained from weights of the same seed (a conditioning image widens the first layer, which draws more
numbers) and on the same noise, and asked the same questions: the squared error of x0 at fixed noise levels on
validation images that no variant was trained on, and the distance and diversity of what it draws; against gradient
steps and seconds, those of its bank included. A run and its prior (VARIANT-SEED.safetensors) are written when it is
finished, and the same command does what is missing. --table: only the table. Seconds are those of the processor, so
that others on the machine do not count.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import csv
import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.batch import Batch
from common.build import build, check_options
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.image_range import to_float, to_uint8
from common.pictures import grid, png_bytes
from common.private_names import foreach_copy_, foreach_lerp_
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from datamodules.store import ImageSet
from diffusion.assemble import assemble
from diffusion.denoiser import Condition, NetworkDenoiser
from diffusion.drawing import draw
from diffusion.levels import spaced_sigmas
from diffusion.losses import denoising_loss
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.schedules import Schedule
from diffusion.weighting.base import Weighting
from diffusion.image_conditioning import ConditioningOptions
from common.yaml_files import override, read_yaml
from metrics.features import FeatureNetwork
from metrics.fid import fid
from metrics.moments import Moments
from metrics.set_diversity import set_diversity
from networks.unet import UNet
from restoration.conditioning_bank import ConditioningBank

AVERAGE = 0.995  # of the weights, per step, as in training by train.py with a short half-life


@dataclass(frozen=True)
class Variant:
    """bank: the name of a bank, None for a diffusion model without a conditioning image. images: of the training set,
    the first so many; None: all. conditioning: options of diffusion/image_conditioning.py. shown: from which share of
    the training to which the network sees the conditioning image, grey in its place before and after; it is measured
    as it was trained last. steps, at, seeds: replace the study's.
    """

    bank: str | None = None
    images: int | None = None
    conditioning: dict = field(default_factory=dict)
    shown: list[float] = field(default_factory=lambda: [0.0, 1.0])
    steps: int | None = None
    at: list[int] | None = None
    seeds: list[int] | None = None


@dataclass(frozen=True)
class Study:
    """One study. banks: ConditioningBank options by name. at: steps after which everything is measured. sigmas: levels
    of the questions. draws: images drawn for every measurement, conditioning image by conditioning image, `per_image`
    of each. steps_to_draw: at the end FID is measured at these numbers of sampling steps besides.
    """

    data: dict
    network: dict
    schedule: dict
    banks: dict
    variants: dict
    features: dict
    steps: int = 1500
    at: list[int] = field(default_factory=lambda: [250, 500, 1000, 1500])
    batch_size: int = 32
    learning_rate: float = 2e-3
    prediction: str = "v"
    weighting: dict | str = "diffusion.weighting.target.Target"
    sigmas: list[float] = field(default_factory=lambda: [0.1, 0.5, 2.0, 10.0])
    draws: int = 512
    per_image: int = 4
    sampling_steps: int = 20
    steps_to_draw: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])


class Run:
    """One variant with one seed: trains, and measures after some steps."""

    def __init__(
        self, study: Study, name: str, seed: int, data: ImageDataModule, features: FeatureNetwork, reference: Moments
    ) -> None:
        self.study, self.seed, self.features, self.reference = study, seed, features, reference
        self.variant = variant_of(study, name)
        train: ImageSet = data.images("train")
        self.validation = data.images("validation")
        rows = range(min(self.variant.images or len(train), len(train)))
        self.train, self.rows = train, len(rows)
        self.bank = bank_of(study, self.variant.bank)
        options = ConditioningOptions(**self.variant.conditioning) if self.bank is not None else None
        wide = options is not None and options.sees_image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            channels = data.shape[0]
            network = build(
                study.network, UNet, where="network", in_channels=channels * (1 + wide), out_channels=channels
            )
        schedule = build(study.schedule, Schedule, where="schedule")
        self.denoiser: NetworkDenoiser = assemble(
            network=network, schedule=schedule, prediction=study.prediction, data_shape=data.shape, conditioning=options
        )
        self.average = [p.detach().clone() for p in network.parameters()]
        self.seconds, self.found, self.showing = 0.0, [], True

    def go(self, say) -> list[dict[str, Any]]:
        """Everything that was measured, a row for each of `at`."""
        study, steps = self.study, self.variant.steps or self.study.steps
        at = set(self.variant.at or study.at)
        optimizer = torch.optim.Adam(self.denoiser.network.parameters(), lr=study.learning_rate)
        generator = torch.Generator().manual_seed(self.seed)
        weighting, recent = build(study.weighting, Weighting, where="weighting"), []
        for step in range(1, steps + 1):
            begun = time.process_time()
            for group in optimizer.param_groups:
                group["lr"] = study.learning_rate * min(1.0, step / 100)
            rows = torch.randint(self.rows, (study.batch_size,), generator=generator)
            batch = self.train.take(rows)
            x0, noise = (
                to_float(batch.image),
                torch.randn((study.batch_size, *batch.image.shape[1:]), generator=generator),
            )
            time_of = self.denoiser.training_time(torch.rand(study.batch_size, generator=generator))
            condition = None
            self.showing = self.variant.shown[0] * steps < step <= self.variant.shown[1] * steps
            if self.bank is not None:
                conditioning = self._conditioning(batch)
                x0, condition = cast(Any, self.denoiser).inner(x0, conditioning), Condition(image=conditioning)
            loss = denoising_loss(self.denoiser, x0, noise, time_of, weighting=weighting, condition=condition).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.denoiser.network.parameters(), 1.0)
            optimizer.step()
            keep = min(AVERAGE, (step + 1) / (step + 10))
            foreach_lerp_(self.average, [p.detach() for p in self.denoiser.network.parameters()], 1 - keep)
            self.seconds += time.process_time() - begun
            recent = [*recent[-99:], float(loss.detach())]
            if step in at:
                self.found.append(
                    {
                        "step": step,
                        "seconds": self.seconds,
                        "train_loss": sum(recent) / len(recent),
                        **self.measure(study.steps_to_draw if step == steps else []),
                    }
                )
                say(
                    f"  step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in self.found[-1].items() if k != "step"),
                    flush=True,
                )
        return self.found

    @torch.no_grad()
    def measure(self, steps_to_draw: list[int]) -> dict[str, float]:
        """With the averaged weights."""
        with self._averaged():
            others = {f"fid_{n}_steps": self._fid(self.draw(n)[0]) for n in steps_to_draw}
            return {**self._x0_losses(), **self._quality(), **others}

    def save(self, path: Path, data: str) -> None:
        """The averaged weights as a prior that evaluate.py reads."""
        training = {
            "images": self.study.batch_size * (self.variant.steps or self.study.steps),
            "weighting": build(self.study.weighting, Weighting, where="weighting").spec,
        }
        with self._averaged():
            write_safetensors(path, self.denoiser.network, describe_prior(self.denoiser, data=data, training=training))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights inside the network, in eval mode; put back afterwards."""
        parameters = [p.data for p in self.denoiser.network.parameters()]
        raw = [p.clone() for p in parameters]
        foreach_copy_(parameters, self.average)
        self.denoiser.network.eval()
        try:
            yield
        finally:
            foreach_copy_(parameters, raw)
            self.denoiser.network.train()

    def _x0_losses(self) -> dict[str, float]:
        """mean((x0(x_sigma) - x0)^2), clipped to the range of images, on the validation images: comparable between all
        parametrisations.
        """
        found = {}
        batch = self.validation.get(range(len(self.validation)))
        x0, index = to_float(batch.image), batch.index.tolist()
        condition = None if self.bank is None else Condition(image=self._conditioning(batch))
        for k, sigma in enumerate(self.study.sigmas):
            if not self.denoiser.sigma_min <= sigma <= self.denoiser.sigma_max:
                continue  # a shortened chain has no such level
            noise = RandomStreams(0).normal_batch(f"question {k}", index, [0] * len(index), x0.shape[1:])
            said = self.denoiser.predict(x0 + sigma * noise, torch.full((len(x0),), sigma), condition).x0.clamp(-1, 1)
            found[f"x0_loss_{sigma:g}"] = float((said - x0).square().mean())
        return found

    def _quality(self) -> dict[str, float]:
        self.drawn, conditioning_images = self.draw(self.study.sampling_steps)
        pixels = to_uint8(self.drawn)
        features = self.features.of_all(pixels).features
        whole = set_diversity(pixels, features)
        found = {
            "fid": fid(features, self.reference).value,
            "diversity": whole.feature_distance.value,
            "pixel_rmse": whole.pixel_rmse.value,
        }
        if conditioning_images is not None:
            sets = self.drawn.unflatten(0, (-1, self.study.per_image))
            # sqrt of the mean squared distance of two draws of the same conditioning image, in grey levels: 0 where the
            # conditioning image decides everything.
            found["pixel_rmse_of_one_image"] = 127.5 * float((2 * sets.var(1).mean()).sqrt())
        return found

    def _conditioning(self, batch: Batch) -> Tensor:
        """The conditioning images of a batch, or grey where they are not shown now."""
        image = cast(ConditioningBank, self.bank).conditioning_images(batch.index).image
        return image if self.showing else torch.zeros_like(image)

    def _fid(self, images: Tensor) -> float:
        return fid(self.features.of_all(to_uint8(images)).features, self.reference).value

    def draw(self, steps: int) -> tuple[Tensor, Tensor | None]:
        """So many images, keyed by their number, in so many steps; with the conditioning images of the validation
        images, `per_image` draws of each.
        """
        study, denoiser = self.study, self.denoiser
        sigmas = spaced_sigmas(denoiser, min(steps, denoiser.num_timesteps), "trailing")
        drawn, conditioning_images = [], None
        if self.bank is not None:
            rows = [(i // study.per_image) % len(self.validation) for i in range(study.draws)]
            conditioning_images = self._conditioning(self.validation.get(rows))
        for first in range(0, study.draws, 64):
            index = list(range(first, min(first + 64, study.draws)))
            conditioning = None if conditioning_images is None else conditioning_images[index]
            options = {} if conditioning is None else {"condition": Condition(image=conditioning), "mean": conditioning}
            drawn.append(
                draw(
                    denoiser,
                    DPMSolverPP2M(),
                    sigmas,
                    index=index,
                    random=RandomStreams(self.seed),
                    device="cpu",
                    **options,
                )
            )
        return torch.cat(drawn), conditioning_images


def read_study(path: Path, changes: list[list[str]] | None = None) -> Study:
    """The study in a file, with (key, value) changes; UserError for what does not fit."""
    content = read_yaml(path)
    for key, value in changes or []:
        content = override(content, key, value)
    study = Study(**check_options(Study, content, where=f"--config '{path}'"))
    if study.per_image < 2 or study.draws < 1 or study.draws % study.per_image:
        raise UserError(
            "draws must be a multiple of per_image, which is at least 2 for the spread of draws of one image,"
            f" got {study.draws} and {study.per_image}"
        )
    for name in study.variants:
        variant = variant_of(study, name)
        if len(variant.shown) != 2 or not 0 <= variant.shown[0] < variant.shown[1] <= 1:
            raise UserError(f"variants.{name}.shown must be two shares of the training that rise, got {variant.shown}")
        if variant.shown != [0.0, 1.0] and (
            variant.bank is None or variant.conditioning.get("form", "") not in ("", "conditional")
        ):
            raise UserError(
                f"variants.{name}.shown is for a variant with a bank and of form conditional, in which the image is"
                " only a second input: leave it out"
            )
        if variant.bank is not None and variant.bank not in study.banks:
            raise UserError(
                f"variants.{name}.bank: there is no bank '{variant.bank}'; there are {', '.join(study.banks)}"
            )
    return study


def variant_of(study: Study, name: str) -> Variant:
    """One variant, checked."""
    return Variant(**check_options(Variant, study.variants[name] or {}, where=f"variants.{name}"))


def bank_of(study: Study, name: str | None) -> ConditioningBank | None:
    """A bank of the study, complete or not; None for no name."""
    return (
        None
        if name is None
        else build(
            {"class_path": "restoration.conditioning_bank.ConditioningBank", "init_args": study.banks[name]},
            ConditioningBank,
            where=f"banks.{name}",
        )
    )


def write_table(study: Study, folder: Path) -> list[dict[str, Any]]:
    """runs.csv, a row per variant, seed and step; seconds_in_all has the bank's seconds for the images that were
    trained on.
    """
    rows = []
    for path in sorted((folder / "runs").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["variant"] not in study.variants:
            continue
        bank = bank_of(study, variant_of(study, run["variant"]).bank)
        before = 0.0 if bank is None else bank.seconds_per_image * run["images"]
        rows += [
            {"variant": run["variant"], "seed": run["seed"], **r, "seconds_in_all": r["seconds"] + before}
            for r in run["measured"]
        ]
    order = list(study.variants)
    rows.sort(key=lambda r: (order.index(r["variant"]), r["seed"], r["step"]))
    names = list(dict.fromkeys(name for r in rows for name in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    write_atomically(folder / "runs.csv", text.getvalue())
    return rows


def main() -> None:
    parser = Parser(prog="python -m studies.conditioning_study", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="replace one entry, by its dotted path",
    )
    parser.add_argument("--table", action="store_true", help="only the table of what is there")
    args = parser.parse_args()
    run_study(read_study(args.config, args.set), require_writable_folder(args.output, "--output"), table=args.table)


def run_study(study: Study, folder: Path, *, table: bool = False, say=print) -> list[dict[str, Any]]:
    """Do what is missing and write the table; its rows."""
    data = build(study.data, ImageDataModule, where="data")
    features = reference = None
    (folder / "runs").mkdir(exist_ok=True)
    for name in [] if table else study.variants:
        variant = variant_of(study, name)
        for seed in variant.seeds or study.seeds:
            path = folder / "runs" / f"{name}-{seed}.json"
            if path.is_file():
                continue
            if features is None:
                data.prepare_data()
                features = build(study.features, FeatureNetwork, where="features")
                reference = reference_of(features, data.images("train"))
            bank = bank_of(study, variant.bank)
            if bank is not None:
                _fill(bank, data, variant.images, say)
            say(f"{name}, seed {seed}", flush=True)
            run = Run(study, name, seed, data, features, cast(Moments, reference))
            measured = run.go(say)
            write_atomically(folder / f"{name}-{seed}.png", png_bytes(grid(run.drawn[:64], columns=16, at_least=28)))
            run.save(folder / f"{name}-{seed}.safetensors", type(data).__name__)
            write_atomically(
                path, json.dumps({"variant": name, "seed": seed, "images": run.rows, "measured": measured})
            )
    return write_table(study, folder)


def reference_of(features: FeatureNetwork, images: ImageSet) -> Moments:
    """Of all training images, whatever a variant is trained on."""
    parts = [
        Moments.of(features.of_all(images.get(range(k, min(k + 1000, len(images)))).image).features)
        for k in range(0, len(images), 1000)
    ]
    return sum(parts[1:], parts[0])


def _fill(bank: ConditioningBank, data: ImageDataModule, limit: int | None, say) -> None:
    """The conditioning images of the training images that are used, and of all validation images."""
    for split in ("train", "validation"):
        images = data.images(split)
        count = min(len(images), limit) if split == "train" and limit is not None else len(images)
        bank.compute(lambda rows, images=images: (images.get(rows).image, images.get(rows).index), count)
    say(f"bank '{bank.path}': {bank.seconds_per_image:.3g} s an image", flush=True)


if __name__ == "__main__":
    run_cli(main)
