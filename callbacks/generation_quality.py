"""FID, KID and Inception score of a prior while it is trained, so that runs can be compared by what they draw."""

import time
from typing import Any

import lightning.pytorch as pl
import torch

from callbacks.preemption import Breakable, may_be_broken_off
from callbacks.step_end import StepEnd
from checkpoints.features import ClassifierFeatures, InceptionFeatures
from common.errors import UserError
from common.image_range import to_uint8
from evaluation.generation.measures import metrics_of, quality, too_few
from evaluation.generation.reference import reference_features
from lightning_modules.prior import PriorModule
from metrics.features import FeatureNetwork, Features


class GenerationQuality(StepEnd):
    """At the end of training, and every `every_n_steps`: draws `num_images` with the averaged weights and measures them
    against the training images.

    Logged: quality/fid, quality/fid_without_bias, quality/kid, quality/inception_score, quality/images_per_second; the
    ends of the 95 % intervals as quality/fid_low, quality/fid_high and so on.

    Args:
        features: path of a classifier (assets/classifier_mnist.safetensors), or "inception" for the file that clean-fid
            uses.
        num_images: 0 switches it off; ten times the dimension of the features or more.
        every_n_steps: optimiser steps between two measurements; null (default): at the end alone, for it costs
            `num_images` drawings.
        reference_images: only so many training images, null for all.
        batch_size: images drawn at once. Image k is the same for any number of processes, which share the work.

    Raises:
        UserError: before training for a feature network that is not there or does not suit the images.
    """

    def __init__(
        self,
        *,
        features: str | None = None,
        num_images: int = 0,
        every_n_steps: int | None = None,
        reference_images: int | None = None,
        batch_size: int = 250,
    ) -> None:
        if num_images and (num_images < 4 or features is None):
            raise UserError(
                "quality.num_images must be 0 or at least 4 and needs quality.features, the path of a classifier or"
                f" inception, got {num_images}"
            )
        if (
            (every_n_steps is not None and every_n_steps < 1)
            or (reference_images is not None and reference_images < 2)
            or batch_size < 1
        ):
            raise UserError(
                "quality.every_n_steps and batch_size must be at least 1, reference_images at least 2, got"
                f" {every_n_steps}, {reference_images}"
            )
        self.features, self.num_images, self.every_n_steps = features, num_images, every_n_steps
        self.reference_images, self.batch_size = reference_images, batch_size
        self._network: FeatureNetwork | None = None
        self._reference: Features | None = None
        self._due_step = -1  # of a measurement that has begun and not ended

    def setup(self, trainer: pl.Trainer, pl_module: PriorModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not self.num_images or stage != "fit" or self._network is not None:
            return
        if not isinstance(pl_module, PriorModule):
            raise UserError(
                f"quality.num_images is {self.num_images}, and model is a {type(pl_module).__name__}, which draws no"
                " images: set it to 0"
            )
        if not pl_module.generates:
            raise UserError(
                f"quality.num_images is {self.num_images}, and model.start is null, so that nothing can be drawn: set"
                " it to 0, or give a start"
            )
        self._network = (
            InceptionFeatures() if self.features in (None, "inception") else ClassifierFeatures(path=self.features)
        )
        self._network.check(pl_module.data_shape)
        if trainer.is_global_zero and (warning := too_few(self.num_images, self._network.dimension)):
            print(f"quality: {warning}", flush=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.num_images and self._due_step == trainer.global_step:  # the run was stopped while it measured
            self._measure_now(trainer, pl_module)

    def on_step_end(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        # Inside training, not after it: a run that is stopped while it measures is not finished, and measures again
        # when it goes on.
        step = trainer.global_step
        if not self.num_images:
            return
        last = step >= trainer.estimated_stepping_batches
        if last or (self.every_n_steps is not None and step % self.every_n_steps == 0):
            self._measure_now(trainer, pl_module)

    def _measure_now(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        self._due_step = trainer.global_step
        with may_be_broken_off(trainer) as inside:
            self._measure(trainer, pl_module, inside)
        self._due_step = -1

    def state_dict(self) -> dict[str, int]:
        return {"due_step": self._due_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._due_step = state_dict["due_step"]

    def _measure(self, trainer: pl.Trainer, pl_module: PriorModule, inside: Breakable) -> None:
        assert self._network is not None, "setup builds it before anything is measured"
        network = self._network.to(pl_module.device)
        if self._reference is None:
            self._reference = reference_features(
                _datamodule(trainer).images("train"), network, limit=self.reference_images
            )
        began = time.monotonic()
        index = list(range(trainer.global_rank, self.num_images, trainer.world_size))
        parts: list[Features] = []
        with (
            pl_module.looking_through_average(),
            trainer.precision_plugin.val_step_context(),
        ):
            for k in range(0, len(index), self.batch_size):
                inside.at_a_batch()
                images = pl_module.generate(index[k : k + self.batch_size])
                parts.append(network.of(to_uint8(images.float())))
        inside.through()
        drawn = _gathered(index, parts)
        seconds = time.monotonic() - began
        if not trainer.is_global_zero:
            return
        found = quality(metrics_of(network), drawn, self._reference)
        values = {"quality/images_per_second": self.num_images / seconds, "images": float(pl_module.images_seen)}
        for name, estimate in found.numbers.items():
            values[f"quality/{name}"] = estimate.value
            if estimate.low == estimate.low:  # not NaN
                values |= {f"quality/{name}_low": estimate.low, f"quality/{name}_high": estimate.high}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        fid = found["fid"]
        ends = f" [{fid.low:.3f}, {fid.high:.3f}]" if fid.low == fid.low else ""  # few images have none
        print(
            f"quality at step {trainer.global_step}: FID {fid.value:.3f}{ends}, KID x 1000"
            f" {1000 * found['kid'].value:.3f}, {self.num_images} images, features {network.name}, {seconds:.0f} s",
            flush=True,
        )


def _gathered(index: list[int], parts: list[Features]) -> Features:
    """The features of all processes in the order of the indices."""
    mine = (index, Features.joined(parts) if parts else None)
    everyone: list[Any] = [mine]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        everyone = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, mine)
    order = torch.tensor([i for indices, _ in everyone for i in indices]).argsort()
    return Features.joined([f for _, f in everyone if f is not None]).rows(order)


def _datamodule(trainer: pl.Trainer) -> Any:
    """Lightning sets it on every trainer that was given one, and does not declare it."""
    return getattr(trainer, "datamodule")  # noqa: B009
