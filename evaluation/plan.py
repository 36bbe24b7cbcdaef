"""The objects that a configuration names, built and checked: images, priors, tasks, methods, metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

import torch

from checkpoints.method_prior import GivenPrior, prior_for
from common.build import build, find_class
from common.errors import UserError, nearest
from common.image_range import sigma_to_255
from common.noise_level import refuse_loud
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule, Split, data_name
from datamodules.store import ImageSet
from degradations.base import Degradation, Shape
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.grey_through_colour import GreyThroughColour
from evaluation.built_metrics import BuiltMetrics, build_metrics
from evaluation.config import Config, MethodEntry
from evaluation.fingerprint import cell_fingerprint
from evaluation.generation.reference import TrainingImages
from evaluation.trainings import refuse_untrained
from restoration.base import Method

Key = tuple[str, str]


@dataclass(frozen=True)
class BuiltTask:
    """A task by name: its degradation, its noise, and the rows of the image set that it is about."""

    name: str
    degradation: Degradation
    noise: Noise
    rows: range


@dataclass(frozen=True)
class BuiltMethod:
    """A method by name; num_samples is 1 for a deterministic one, whatever was asked for. by_task: the same with the
    options of its own that a task has.
    """

    name: str
    method: Method
    num_samples: int
    by_task: dict[str, Method] = field(default_factory=dict)

    def on(self, task: str) -> Method:
        """The method with the options for a task."""
        return self.by_task.get(task, self.method)


@dataclass(frozen=True)
class Plan:
    """An evaluation, ready to run on one device. names: of the images by row, usable as file names and unique. cells:
    (task, method) in order.
    """

    config: Config
    images: ImageSet
    names: tuple[str, ...]
    tasks: dict[str, BuiltTask]
    methods: dict[str, BuiltMethod]
    metrics: BuiltMetrics
    cells: tuple[Key, ...]
    fingerprints: dict[Key, str]
    random: RandomStreams
    device: torch.device

    def rows(self, task: str, method: str) -> range:
        """The rows of the image set that a cell is about."""
        return self.tasks[task].rows[: self.config.methods[method].limit]

    def shapes(self, rows: Sequence[int]) -> dict[Shape, list[int]]:
        """The rows by image shape."""
        found: dict[Shape, list[int]] = {}
        for row in rows:
            found.setdefault(self.images.shape(row), []).append(row)
        return found


def make_plan(
    config: Config,
    *,
    precision: str = "32",
    device: torch.device | str = "cpu",
    prepare: bool = True,
    measuring: bool = True,
) -> Plan:
    """Build all that a configuration names. Raises UserError for whatever does not fit.

    prepare: download data where they are missing. measuring: build the metrics of samples and of sets too (a process
    that only restores needs none).
    """
    device = torch.device(device)
    data = build(config.data, ImageDataModule, where="data")
    degradations = {
        name: build(task.degradation, Degradation, where=f"tasks.{name}.degradation")
        for name, task in config.tasks.items()
    }
    noises = {name: build(task.noise, Noise, where=f"tasks.{name}.noise") for name, task in config.tasks.items()}
    for name, task in config.tasks.items():
        if {"sigma", "sigma_255", "sigma_unit"} & set(task.noise["init_args"]):
            refuse_loud(sigma_to_255(noises[name].sigma), f"tasks.{name}.noise: sigma_255")
    methods, fingerprint_of_prior = _methods(config, precision, device)
    if prepare:
        data.prepare_data()
    images = data.images(cast(Split, config.split))
    if not len(images):
        raise UserError(f"the {config.split} split of {config.data['class_path']} has no images: choose another split")
    if {images.shape(row)[0] for row in range(len(images))} == {1}:
        methods = _grey_through_colour(methods, config)
    tasks = {}
    for name, task in config.tasks.items():
        limits = [n for n in (config.limit, task.limit, len(images)) if n is not None]
        tasks[name] = BuiltTask(name, degradations[name], noises[name], range(min(limits)))
    cells = tuple(
        (t, m) for t in tasks for m, entry in config.methods.items() if entry.tasks is None or t in entry.tasks
    )
    if not cells:
        raise UserError("no method is to be used on any task: look at the 'tasks' entries of methods")
    shapes = dict.fromkeys(images.shape(row) for row in range(max(len(task.rows) for task in tasks.values())))
    metrics = build_metrics(
        config.metrics,
        features=config.features,
        shapes=shapes,
        device=device,
        measuring=measuring,
        reference=TrainingImages(data),
    )
    for metric in metrics.sets.values():
        metric.check_data(data_name(data), None)
    fingerprints = {(t, m): cell_fingerprint(config, t, m, fingerprint_of_prior.get(m), precision) for t, m in cells}
    return Plan(
        config=config,
        images=images,
        names=_image_names(images),
        tasks=tasks,
        methods=methods,
        metrics=metrics,
        cells=cells,
        fingerprints=fingerprints,
        random=RandomStreams(config.seed),
        device=device,
    )


def _methods(config: Config, precision: str, device: torch.device) -> tuple[dict[str, BuiltMethod], dict[str, str]]:
    """The methods, each with its prior; the fingerprint of the prior by method. A checkpoint is read once, whoever
    shares it.
    """
    loaded: dict[tuple[str, str], GivenPrior] = {}
    methods, fingerprints = {}, {}
    for name, entry in config.methods.items():
        where = f"methods.{name}"
        found = find_class(entry.class_path, Method, where=where)
        injected = {}
        if found.needs_prior:
            if entry.prior not in config.priors:
                known = (
                    f"there are {', '.join(config.priors)}" if config.priors else "there are none, give --prior PATH"
                )
                raise UserError(
                    f"{where} needs the prior '{entry.prior}', which priors does not"
                    f" have{nearest(entry.prior, config.priors)}; {known}"
                )
            key = (entry.prior, found.prior_kind)
            if key not in loaded:
                prior = config.priors[entry.prior]
                options = {
                    "weights": prior.weights,
                    "adapters": prior.adapters,
                    "preset": prior.preset,
                    "device": device,
                    "precision": precision,
                }
                for path in (prior.path, *(adapter.path for adapter in prior.adapters)):
                    refuse_untrained(entry.prior, path, prior.trained_by)
                loaded[key] = prior_for(found, prior.path, **options, where=where)
            injected["prior"], fingerprints[name] = loaded[key].model, loaded[key].fingerprint
        methods[name] = _built(name, entry, injected)
    return methods, fingerprints


def _built(name: str, entry: MethodEntry, injected: dict[str, Any]) -> BuiltMethod:
    """A method with its options, and once more for each task that has others."""

    def one(options: dict[str, Any], where: str) -> Method:
        return build({"class_path": entry.class_path, "init_args": options}, Method, where=where, **injected)

    method = one(entry.init_args, f"methods.{name}")
    by_task = {task: one(entry.options(task), f"methods.{name}.per_task.{task}") for task in entry.per_task}
    for task, other in by_task.items():
        if other.deterministic != method.deterministic:
            raise UserError(
                f"methods.{name}.per_task.{task} makes the method {'' if other.deterministic else 'not '}deterministic,"
                " and so its number of samples another one: give it a name of its own in methods"
            )
    return BuiltMethod(name, method, 1 if method.deterministic else entry.num_samples, by_task)


def _grey_through_colour(methods: dict[str, BuiltMethod], config: Config) -> dict[str, BuiltMethod]:
    """The methods for grey pictures: a prior of colour pictures of any size sees them in three equal channels."""
    shown: dict[int, GreyThroughColour] = {}
    found = dict(methods)
    for name, built in methods.items():
        prior = built.method.prior
        if isinstance(prior, Denoiser) and prior.any_size and prior.data_shape[0] == 3 and not prior.takes_image:
            grey = shown.setdefault(id(prior), GreyThroughColour(prior))
            found[name] = _built(name, config.methods[name], {"prior": grey})
    return found


def _image_names(images: ImageSet) -> tuple[str, ...]:
    """A name of every image of the set that is a usable file name; images that would share one get their row behind it,
    whatever the limit.
    """
    plain = []
    for row in range(len(images)):
        name = "__".join(part for part in PurePosixPath(images.name(row)).parts if part not in ("/", "..", "."))
        plain.append("".join(c if c.isalnum() or c in "-_.+" else "-" for c in name).lstrip(".")[:120] or f"{row:05d}")
    count = Counter(plain)
    return tuple(f"{name}~{row}" if count[name] > 1 else name for row, name in enumerate(plain))
