"""Trains p(x | y) of one degradation: a diffusion prior that sees what a measurement says of the image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation
from degradations.measurement import measure
from degradations.noise import Noise
from diffusion.denoiser import Condition, NetworkDenoiser
from diffusion.drawing import draw
from diffusion.image_conditioning import ConditioningOptions
from lightning_modules.ddpm import DDPM


class DDPMForOperator(DDPM):
    """DDPM's loss for a network that sees (x_t, A^+ y), y = A x0 + n: E |f(a x0 + b eps, A^+ y, t) - target|^2 -> min,
    thus a sampler of p(x | y).

    The network has 2 C input channels (fine_tuning.py makes them of a prior's C). Restore with
    restoration.warm_start.WarmStart and `first` A^+ y; other methods refuse such a prior. The other arguments: see
    DDPM.

    Args:
        degradation: of one task, A, drawn anew for every image and step; validation and sample grids have those of an
            evaluation with this seed.
        noise: of that task, n, drawn anew for every image and step.

    Raises:
        UserError: also for a degradation without a pseudo-inverse.

    Source: Saharia et al. 2021 (2104.07636), Palette (2111.05826), in A^+ y instead of a resized y.
    """

    images_side_by_side = 2

    def __init__(self, *, degradation: Degradation, noise: Noise, **options) -> None:
        super().__init__(**options)
        self.degradation, self.noise = degradation, noise
        self._random = RandomStreams(self.seed)
        if not degradation.operator_for(self.data_shape, [0], self._random).linear:
            raise UserError(
                "model.degradation must be linear, so that the network can be shown A^+ y, and"
                f" {type(degradation).__name__} is not"
            )

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        self._random = RandomStreams(generator.initial_seed())  # of this step, known without asking the device
        try:
            return super().losses(batch, generator)
        finally:
            self._random = RandomStreams(self.seed)

    def conditioning_images(self, image: Tensor, index: Sequence[int]) -> Tensor:
        """A^+ y of images [B, C, H, W] with these indices."""
        found = measure(image, degradation=self.degradation, noise=self.noise, index=index, random=self._random)
        return found.operator.pseudo_inverse(found.y)

    def generate(self, index: list[int]) -> Tensor:
        """Draws from p(x | y) for measurements of validation images, image i of the i-th."""
        return self._restored(index)[1]

    def samples(self, count: int, batch_size: int) -> tuple[Tensor, int | None]:
        """Rows of validation images: A^+ y, two draws, and as they were."""
        columns = max(1, count // 4)
        conditioning, first, truth = self._restored(list(range(columns)))
        again = self._restored(list(range(columns)), first_key=columns)[1]
        return torch.cat([conditioning, first, again, truth]), len(truth)

    def _restored(self, index: list[int], first_key: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """(A^+ y, a draw, x0) of validation images; the noise of the draw is keyed from `first_key`."""
        images = self.trainer_parts.datamodule.images("validation")
        if not len(images):
            raise UserError(
                "images are drawn for measurements of validation images, and there are none: set data.validation"
            )
        batch = images.get([i % len(images) for i in index])
        truth = self.trainer_parts.datamodule.on_after_batch_transfer(
            batch._replace(image=batch.image.to(self.device)), 0
        ).image
        conditioning = self.conditioning_images(truth, batch.index.tolist())
        training = self.network.training
        self.network.eval()
        condition = replace(self.conditioning.of_drawing(index, self.device) or Condition(), image=conditioning)
        keys = [first_key + i for i in index]
        guided, random = self.conditioning.guided(self.denoiser), RandomStreams(self.seed)
        x = draw(
            guided,
            self.sampler,
            self.sampling_sigmas,
            index=keys,
            random=random,
            device=self.device,
            condition=condition,
        )
        self.network.train(training)
        return conditioning, x, truth

    def _assembled(self, **parts: Any) -> NetworkDenoiser:
        return super()._assembled(**parts, conditioning=ConditioningOptions(form="conditional"))

    def _loss(self, batch: Batch, noise: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        conditioning = self.conditioning_images(batch.image, batch.index.tolist())
        return super()._loss(batch, noise, time, replace(condition or Condition(), image=conditioning))
