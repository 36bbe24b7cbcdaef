"""Trains a diffusion prior with masks: what counts, and how noisy each pixel is, depends on what is missing."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation
from degradations.diagonal import Diagonal
from degradations.stored_masks import StoredMasks
from diffusion.denoiser import Condition
from diffusion.losses import denoising_loss
from diffusion.masked_training import MaskedTraining
from lightning_modules.ddpm import DDPM


class MaskedDDPM(DDPM):
    """DDPM's loss at the times and with the weights that a variant of diffusion/masked_training.py gives for the
    missing pixels m of every image: E sum_p w_p |f(a_p x0 + b_p eps, t_p) - target|_p^2 -> min.

    The result is an ordinary prior; restoration/level_map.py gives it known pixels at their own level. The other
    arguments: see DDPM.

    Args:
        variant: what a step asks.
        masks: degradations that keep or dim single pixels; each image gets one of them, all equally often. Dimmed ones
            (degradations.spot_mask.SpotMask with soft) are missing by halves, which not every variant takes. Those of a
            file (degradations.stored_masks.StoredMasks) must be there for the images of training and of validation,
            which are not mirrored then.
        unmasked: share of the images of which everything is missing, so that one network stays an unconditional prior
            too, in [0, 1].
        redraw: whether every step draws another mask for an image (true, default), or one is drawn for each image from
            the seed and kept.
        in_turn: masks that change as training goes on: at share s of it mask k of K, from 0, is drawn in proportion to
            max(0, 1 - |s (K - 1) - k|), from the first of the list to the last; they are redrawn then. False: all
            equally often throughout.

    Raises:
        UserError: no masks, one that is none, a variant that does not suit the network or the masks; before training
            where masks of a file do not suit the data.
    """

    def __init__(
        self,
        *,
        variant: MaskedTraining,
        masks: list[Degradation],
        unmasked: float = 0.1,
        redraw: bool = True,
        in_turn: bool = False,
        **options,
    ) -> None:
        super().__init__(**options)
        if not masks or not 0 <= unmasked <= 1:
            raise UserError(
                f"model.masks must name at least one mask and model.unmasked lie in 0 .. 1, got {len(masks)} and"
                f" {unmasked}"
            )
        try:
            variant.check(self.denoiser)
        except ValueError as error:
            raise UserError(f"model.variant does not fit: {error}") from error
        if in_turn and (len(masks) < 2 or not redraw):
            raise UserError(
                f"model.in_turn needs at least two masks and redraw, got {len(masks)} and redraw={str(redraw).lower()}"
            )
        self.variant, self.masks, self.unmasked, self.redraw = variant, masks, unmasked, redraw
        self.in_turn = in_turn
        self._kept = RandomStreams(self.seed)
        self._random = self._kept
        for mask in masks:
            index = mask.first if isinstance(mask, StoredMasks) else 0
            operator = mask.operator_for(self.data_shape, [index], self._kept)
            if not operator.keeps_pixels and not isinstance(operator, Diagonal):
                raise UserError(
                    f"model.masks: {type(mask).__name__} keeps no single pixels, and masks do: take one of"
                    " degradations/*_mask.py"
                )
            if isinstance(operator, Diagonal) and not variant.takes_soft:
                raise UserError(
                    f"model.masks: {type(mask).__name__} dims pixels, and {type(variant).__name__} knows only missing"
                    " and known ones: take MaskedLoss or PixelSeverity, or soft: false"
                )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        stored = [mask for mask in self.masks if isinstance(mask, StoredMasks)]
        if data is None or stage != "fit" or not stored:
            return
        if data.horizontal_flip:
            raise UserError(
                f"model.masks: those of '{stored[0].path}' are of images as they are, and half of these are mirrored:"
                " set data.horizontal_flip to false"
            )
        for mask in stored:
            for split in ("train", "validation"):
                images = data.images(split)
                lacking = mask.lacking(images.store.index[images.positions].tolist())
                if lacking:
                    raise UserError(
                        f"model.masks: '{mask.path}' has no mask of image {lacking[0]}, one of the {split} images: make"
                        " it of all of them, python -m studies.masks --split train, with validation: 0 in --data"
                    )

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.in_turn and not math.isfinite(self.trainer.estimated_stepping_batches):
            raise UserError("model.in_turn needs to know when the training ends: give trainer.max_steps")

    def describe(self, data: str) -> dict[str, Any]:
        found = super().describe(data)
        found["training"]["masked"] = self.variant.spec
        return found

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        if self.redraw:
            self._random = RandomStreams(generator.initial_seed())  # of this step, known without asking the device
        try:
            return super().losses(batch, generator)
        finally:
            self._random = self._kept

    def missing(self, index: list[int]) -> Tensor:
        """1 where a pixel of the images with these indices is missing, float32 [B, 1, H, W]."""
        return torch.cat([self._missing(i) for i in index])

    def _missing(self, index: int) -> Tensor:
        generator = self._random.generator("masked training", index)
        if float(generator.random()) < self.unmasked:
            return torch.ones(1, 1, *self.data_shape[1:])
        family = self.masks[self._which(generator)]
        # A stream of its own: an evaluation with this seed draws other masks, also for an image of the same index.
        random = RandomStreams(int(generator.integers(2**62)))
        operator = family.operator_for(self.data_shape, [index], random)
        return 1 - operator(torch.ones(1, *self.data_shape))[:, :1]

    def _which(self, generator: np.random.Generator) -> int:
        """Of the masks of the list, for one image; those of validation are never in turn, so that its losses can be
        compared.
        """
        if not self.in_turn or not self.training:
            return int(generator.integers(len(self.masks)))
        share = min(self.trainer.global_step / max(1, self.trainer.estimated_stepping_batches), 1.0)
        at = share * (len(self.masks) - 1)
        first = min(int(at), len(self.masks) - 2)
        return first + (float(generator.random()) < at - first)

    def _loss(self, batch: Batch, noise: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        missing = self.missing(batch.index.tolist()).to(batch.image.device)
        asked, weight = self.variant.ask(self.denoiser, time, missing)
        image = batch.image.contiguous(memory_format=torch.channels_last) if self.channels_last else batch.image
        return denoising_loss(
            self.denoiser,
            image,
            noise,
            asked,
            weighting=self.weighting,
            vlb_weight=self.vlb_weight,
            condition=condition,
            pixel_weight=weight,
        )
