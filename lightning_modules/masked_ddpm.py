"""Trains a diffusion prior with masks: what counts, and how noisy each pixel is, depends on what is missing."""

from typing import Any

import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation
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
        masks: degradations that keep pixels; each image gets one of them, all equally often.
        unmasked: share of the images of which everything is missing, so that one network stays an unconditional prior
            too, in [0, 1].
        redraw: whether every step draws another mask for an image (true, default), or one is drawn for each image from
            the seed and kept.

    Raises:
        UserError: no masks, one that is none, a variant that does not suit the network.
    """

    def __init__(
        self,
        *,
        variant: MaskedTraining,
        masks: list[Degradation],
        unmasked: float = 0.1,
        redraw: bool = True,
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
        self.variant, self.masks, self.unmasked, self.redraw = variant, masks, unmasked, redraw
        self._kept = RandomStreams(self.seed)
        self._random = self._kept
        for mask in masks:
            operator = mask.operator_for(self.data_shape, [0], self._kept)
            if not operator.keeps_pixels or operator.mask is None:
                raise UserError(
                    f"model.masks: {type(mask).__name__} keeps no single pixels, and masks do: take one of"
                    " degradations/*_mask.py"
                )

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
        family = self.masks[int(generator.integers(len(self.masks)))]
        # A stream of its own: an evaluation with this seed draws other masks, also for an image of the same index.
        random = RandomStreams(int(generator.integers(2**62)))
        mask = family.operator_for(self.data_shape, [index], random).mask
        assert mask is not None
        return 1 - mask.float()

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
