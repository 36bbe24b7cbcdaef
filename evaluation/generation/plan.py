"""A generation evaluation, built and checked: which prior is walked down which levels by which sampler."""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from checkpoints.load import load_prior
from checkpoints.lora.apply import adapt
from common.build import build
from common.errors import UserError
from common.renamed import original
from datamodules.base import ImageDataModule, Split, data_name
from datamodules.store import ImageSet
from diffusion.autocast import Autocast
from diffusion.class_conditioning import ClassConditioning
from diffusion.denoiser import Denoiser
from diffusion.drawing import refuse_quiet
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import Sampler
from evaluation.generation.config import GenerationConfig
from evaluation.generation.measures import metrics_of
from evaluation.trainings import refuse_untrained
from metrics.base import DistributionMetric, Missing
from metrics.features import FeatureNetwork

VERSION = 1  # raise it when the same configuration begins to give other images


@dataclass(frozen=True)
class Cell:
    """One sampler with one number of steps. name: of files and tables. network: whose forward passes are counted.
    fingerprint: of all that the images, and what is measured of them, depend on.
    """

    sampler_name: str
    steps: int
    denoiser: Denoiser
    network: nn.Module
    sampler: Sampler
    sigmas: Tensor
    conditioning: ClassConditioning
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.sampler_name}-{self.steps}"

    @property
    def calls(self) -> int:
        """Network calls for one image, before guidance doubles them."""
        return self.sampler.calls(self.steps)


@dataclass(frozen=True)
class Plan:
    """cells in the order of the configuration. metrics: by name, in the features of one network. shape: (C, H, W).
    reference, real: image sets, `real` is the split that is not the reference.
    """

    config: GenerationConfig
    cells: tuple[Cell, ...]
    features: FeatureNetwork
    metrics: dict[str, DistributionMetric]
    shape: tuple[int, int, int]
    reference: ImageSet | None
    real: ImageSet | None
    device: torch.device

    @property
    def reference_images(self) -> int:
        """How many images the reference is of."""
        return min(n for n in (len(self.reference or ()), self.config.reference_images) if n is not None)


def make_plan(config: GenerationConfig, *, precision: str, device: torch.device, with_images: bool = True) -> Plan:
    """Build all that a configuration names. UserError for whatever does not fit: steps, spacings, guidance without
    classes, image sizes, missing files.

    with_images: read the real images too (a worker that only draws needs none).
    """
    data = build(config.data, ImageDataModule, where="data")
    features = build(config.features, FeatureNetwork, where="features").to(device)
    metrics = metrics_of(features, config.metrics)
    for name, prior in config.priors.items():
        for path in (prior.path, *(adapter.path for adapter in prior.adapters)):
            refuse_untrained(name, path, prior.trained_by)
    loaded = {
        name: load_prior(prior.path, weights=prior.weights, device=device, preset=prior.preset)
        for name, prior in config.priors.items()
    }
    added = {
        name: adapt(loaded[name].denoiser.network, prior.adapters, weights=prior.weights)
        for name, prior in config.priors.items()
    }
    cells = []
    for name, entry in config.samplers.items():
        where, prior = f"samplers.{name}", loaded[entry.prior]
        sampler = build({"class_path": entry.class_path, "init_args": entry.init_args}, Sampler, where=where)
        network = prior.denoiser.network
        refuse_quiet(prior.denoiser, where)
        for steps in entry.steps:
            try:
                sampler.check(prior.denoiser)
                spaced = spaced_sigmas(prior.denoiser, steps, entry.spacing)
                sigmas = sampler.suited(spaced)
                conditioning = ClassConditioning(
                    getattr(network, "num_classes", None),
                    guidance_scale=entry.guidance,
                    guidance_interval=entry.guidance_interval,
                    guidance_rescale=entry.guidance_rescale,
                    sampling_label=entry.label,
                )
                guided = conditioning.guided(Autocast(prior.denoiser) if precision == "bf16" else prior.denoiser)
            except ValueError as error:
                raise UserError(f"{where}, {steps} steps: {error}") from error
            parts = {
                "version": VERSION,
                "prior": prior.fingerprint + added[entry.prior],
                "sampler": [entry.class_path, entry.init_args],
                "steps": steps,
                "spacing": entry.spacing,
                "guidance": [entry.guidance, entry.guidance_interval, entry.guidance_rescale, entry.label],
                "seed": config.seed,
                "precision": precision,
                "features": [features.name, features.fingerprint],
            }
            if float(sigmas[0]) != float(spaced[0]):
                parts["first level"] = float(sigmas[0])  # images of before, from the first level of the spacing, differ
            fingerprint = hashlib.sha256(json.dumps(original(parts), sort_keys=True).encode()).hexdigest()[:16]
            cells.append(Cell(name, steps, guided, network, sampler, sigmas, conditioning, fingerprint))
    shape = tuple(cells[0].denoiser.data_shape)
    for cell in cells:
        if tuple(cell.denoiser.data_shape) != shape or shape != tuple(data.shape):
            raise UserError(
                f"samplers.{cell.sampler_name} draws images of {list(cell.denoiser.data_shape)}, and data has"
                f" {list(data.shape)}: make them equal"
            )
    for name, metric in metrics.items():
        with contextlib.suppress(Missing):  # measuring says it again, in the metric's place in the table
            metric.check(shape)
        metric.check_data(data_name(data), config.reference)
        if metric.reference_split not in (None, config.reference):
            raise UserError(
                f"metrics.{name} asks how near images are to those of the split '{metric.reference_split}': reference"
                f" is '{config.reference}', give reference: {metric.reference_split}, or {name}: null"
            )
        if metric.reference_split and config.reference_images is not None:
            raise UserError(
                f"metrics.{name} needs all images of the split '{metric.reference_split}': take reference_images"
                f" ({config.reference_images}) out, or give {name}: null"
            )
    reference = real = None
    if with_images:
        data.prepare_data()
        reference = data.images(cast(Split, config.reference))
        real = data.images("test" if config.reference == "train" else "train") if config.real_images else None
        if len(reference) < 2:
            raise UserError(
                f"the {config.reference} split of {config.data['class_path']} has {len(reference)} images: it cannot be"
                " a reference"
            )
    return Plan(config, tuple(cells), features, metrics, shape, reference, real, device)
