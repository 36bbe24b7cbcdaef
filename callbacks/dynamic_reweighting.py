"""Weights of classes that follow what the prior draws: classes that come out too rarely are shown more often."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.step_end import StepEnd
from checkpoints.features import ClassifierFeatures
from common.errors import UserError
from common.image_range import to_uint8
from datamodules.base import ImageDataModule
from datamodules.reweighting import Reweighting, effective_images
from lightning_modules.prior import PriorModule


class DynamicReweighting(StepEnd):
    """w_c <- w_c (1 / (C q_c))^((1 - s) gamma) every `every_n_steps`, q_c the share of class c of C among drawn images
    as a classifier sees them: at rest where all classes are drawn equally often. Bounded by data.reweighting, which
    gives the weights of the beginning, by label.

    New weights hold from the next epoch on. In the last part of the training they stay, so that the average of the
    weights of the network is of one distribution. Logged: reweighting/share_<c>, reweighting/weight_<c>, and
    reweighting/effective_images, (sum w)^2 / sum w^2 of the weights of all images.

    Args:
        features: path of a classifier, such as assets/classifier_mnist.safetensors.
        num_images: drawn each time, at least 1; a class without one counts as half an image.
        every_n_steps: optimiser steps between two looks, at least 1.
        gamma: how strongly weights answer, positive and finite.
        smoothing: s, 0 .. 1, below 1.
        frozen: share of the training at whose end weights stay, 0 .. 1.
        batch_size: images drawn at once.

    Raises:
        UserError: options out of range; before training where the features or the data do not suit.
    """

    def __init__(
        self,
        *,
        features: str,
        num_images: int = 500,
        every_n_steps: int = 500,
        gamma: float = 1.0,
        smoothing: float = 0.9,
        frozen: float = 0.2,
        batch_size: int = 250,
    ) -> None:
        if num_images < 1 or every_n_steps < 1 or batch_size < 1:
            raise UserError(
                f"num_images, every_n_steps and batch_size must be at least 1, got {num_images}, {every_n_steps} and"
                f" {batch_size}"
            )
        if not 0 < gamma < math.inf or not 0 <= smoothing < 1 or not 0 <= frozen <= 1:
            raise UserError(
                f"gamma must be positive and finite, smoothing lie in [0, 1) and frozen in 0 .. 1, got {gamma},"
                f" {smoothing} and {frozen}"
            )
        self.features, self.num_images, self.every_n_steps, self.batch_size = (
            features,
            num_images,
            every_n_steps,
            batch_size,
        )
        self.gamma, self.smoothing, self.frozen = gamma, smoothing, frozen
        self._network: ClassifierFeatures | None = None

    def setup(self, trainer: pl.Trainer, pl_module: PriorModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit" or self._network is not None:
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule) or data.reweighting is None or data.reweighting.by != "label":
            raise UserError(
                "weights that follow what is drawn begin with those of the labels: give data.reweighting with by: label"
            )
        if not isinstance(pl_module, PriorModule) or not pl_module.generates:
            raise UserError(f"weights follow what is drawn, and a {type(pl_module).__name__} draws nothing")
        self._network = ClassifierFeatures(path=self.features)
        self._network.check(pl_module.data_shape)
        begin = data.reweighting.of(data.images("train"))
        alike = torch.ones(self._network.network.num_classes)
        data.reweighting.renewed(begin["weights"], begin["groups"], times=alike)  # refuses another number of classes

    def on_step_end(self, trainer: pl.Trainer, pl_module: PriorModule) -> None:
        step, last = trainer.global_step, trainer.estimated_stepping_batches
        if step % self.every_n_steps == 0 and step < (1 - self.frozen) * last:
            share = self.drawn_shares(trainer, pl_module)
            loader: Any = trainer.train_dataloader  # its position, the weights among it, is in every checkpoint
            answer = (len(share) * share.clamp(min=0.5 / self.num_images)) ** -((1 - self.smoothing) * self.gamma)
            rule: Reweighting = getattr(trainer, "datamodule").reweighting  # noqa: B009  (Lightning sets it)
            bounded = loader.reweight(rule.renewed(loader.newest_weights, loader.groups, times=answer))
            logged = {f"reweighting/share_{c}": float(q) for c, q in enumerate(share)}
            logged |= {f"reweighting/weight_{c}": float(w) for c, w in enumerate(bounded)}
            logged["reweighting/effective_images"] = effective_images(bounded[loader.groups])
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=step)

    def drawn_shares(self, trainer: pl.Trainer, pl_module: PriorModule) -> Tensor:
        """Of the classes among `num_images` images that the averaged prior draws, [C], the same on every process."""
        assert self._network is not None, "setup builds it"
        network = self._network.to(pl_module.device)
        index = list(range(trainer.global_rank, self.num_images, trainer.world_size))
        counts = torch.zeros(network.network.num_classes, dtype=torch.float64)
        with (
            pl_module.looking_through_average(),
            trainer.precision_plugin.val_step_context(),
        ):
            for k in range(0, len(index), self.batch_size):
                images = pl_module.generate(index[k : k + self.batch_size])
                found = network.of(to_uint8(images.float())).probabilities
                assert found is not None, "a classifier has classes"
                counts += torch.bincount(found.argmax(1), minlength=len(counts)).double()
        counts = trainer.strategy.reduce(counts.to(pl_module.device), reduce_op="sum").cpu()
        return counts / counts.sum()
