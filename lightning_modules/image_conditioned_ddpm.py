"""Trains a diffusion prior that is given a conditioning image of every image, from a bank that was computed before: a
deep image prior's answer, say.
"""

from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from diffusion.denoiser import Condition, DiscreteDenoiser, NetworkDenoiser
from diffusion.drawing import draw
from diffusion.image_conditioning import ConditioningOptions, ImageConditionedDenoiser
from diffusion.losses import weighted_error
from diffusion.weighting.base import Weighting
from lightning_modules.ddpm import DDPM
from restoration.conditioning_bank import ConditioningBank, ConditioningImages


class ImageConditionedDDPM(DDPM):
    """DDPM's loss with a conditioning image g of every image: "conditional", "shifted" or "residual"
    (diffusion/image_conditioning.py), or "replaced", which cannot work.

    "replaced": the network's noisy input x_t is replaced by what a method made of it, and its target stays the
    noise; the bank must have been made with a schedule, and says for every image its only time and noise. The loss
    cannot fall below the share of the noise that cannot be read from the input any more.

    Images are drawn with the conditioning images of validation images, image i with the i-th. The other arguments: see
    DDPM.

    Args:
        bank: the conditioning images by index of the image; compute it with python -m studies.dip_bank.
        form: "conditional" (default), "shifted" or "residual", see ConditioningOptions, or "replaced", see above.
        residual_std: standard deviation of x0 - g over the training set, of form residual; python -m studies.dip_bank
            prints that of a bank.
        sees_image: false leaves g out of the network's inputs.
        last_time: fraction of the training times that exist, in (0, 1], see ConditioningOptions.

    Raises:
        UserError: options that contradict each other, for a bank that is missing or incomplete, and for data that are
            mirrored or cropped at random, which conditioning images are not.
    """

    def __init__(
        self,
        *,
        bank: ConditioningBank,
        form: Literal["conditional", "shifted", "residual", "replaced"] = "conditional",
        residual_std: float = 1.0,
        sees_image: bool = True,
        last_time: float = 1.0,
        **options,
    ) -> None:
        if form not in ("conditional", "shifted", "residual", "replaced"):
            raise UserError(f"model.form must be conditional, shifted, residual or replaced, got '{form}'")
        if (form == "replaced") != (bank.schedule is not None):
            raise UserError(
                f"model.form {form} needs a bank {'with' if form == 'replaced' else 'without'} a schedule: see"
                " restoration/conditioning_bank.py"
            )
        if form == "replaced" and (residual_std != 1 or last_time != 1):
            raise UserError("residual_std and last_time are not for form replaced: leave them out")
        try:
            conditioning = (
                None
                if form == "replaced"
                else ConditioningOptions(
                    form=form, residual_std=residual_std, sees_image=sees_image, last_time=last_time
                )
            )
        except ValueError as error:
            raise UserError(f"model: {error}") from error
        self.conditioning_options = conditioning  # before the base class, which asks for it
        super().__init__(**options)
        self.bank = bank
        ours = cast(DiscreteDenoiser, self.denoiser).schedule.alphas_bar
        if bank.schedule is not None and not torch.equal(bank.schedule.alphas_bar, ours):
            raise UserError(
                "model.schedule is not the schedule that the bank's images were diffused with: make them equal"
            )

    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        if datamodule.horizontal_flip:
            raise UserError(
                "data.horizontal_flip mirrors images, and their conditioning images are not mirrored with them: set it"
                " to false"
            )
        if getattr(datamodule, "crop", None) == "random":
            raise UserError(
                "data.crop random shows another part of an image in every epoch, and conditioning images are not"
                " cropped with them: set it to center"
            )
        if stage == "fit":
            for split in ("train", "validation"):
                images = datamodule.images(split)
                # says what is missing now, and not in the middle of an epoch
                self.bank.conditioning_images(images.store.index[images.positions])

    def generate(self, index: list[int]) -> Tensor:
        if self.conditioning_options is None:
            return super().generate(index)
        images = self.trainer_parts.datamodule.images("validation")
        if not len(images):
            raise UserError(
                "images are drawn with the conditioning images of validation images, and there are none: set"
                " data.validation"
            )
        conditioning = self.bank.conditioning_images(
            images.get([i % len(images) for i in index]).index, self.device
        ).image
        training = self.network.training
        self.network.eval()
        condition = replace(self.conditioning.of_drawing(index, self.device) or Condition(), image=conditioning)
        random = RandomStreams(self.seed)
        x = draw(
            self.denoiser,
            self.sampler,
            self.sampling_sigmas,
            index=index,
            random=random,
            device=self.device,
            condition=condition,
            mean=conditioning,
        )
        self.network.train(training)
        return x

    def _assembled(self, **parts: Any) -> NetworkDenoiser:
        return super()._assembled(**parts, conditioning=self.conditioning_options)

    def _loss(self, batch: Batch, noise: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        conditioning_images = self.bank.conditioning_images(batch.index, batch.image.device)
        if self.conditioning_options is None:
            return replaced_input_loss(self.denoiser, batch.image, conditioning_images, weighting=self.weighting)
        condition = replace(condition or Condition(), image=conditioning_images.image)
        inner = cast(ImageConditionedDenoiser, self.denoiser).inner(batch.image, conditioning_images.image)
        return super()._loss(batch._replace(image=inner), noise, time, condition)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.conditioning_options is not None:
            return super().validation_step(batch, batch_idx)
        conditioning_images = self.bank.conditioning_images(batch.index, batch.image.device)
        loss = replaced_input_loss(self.denoiser, batch.image, conditioning_images, weighting=self.weighting)
        time = cast(Tensor, conditioning_images.time)  # the bank has a schedule, see __init__
        self.validation_losses.update(loss, self.denoiser.bin_of(time, self.validation_losses.count))

    test_step = validation_step


def replaced_input_loss(
    denoiser: NetworkDenoiser,
    x0: Tensor,
    conditioning_images: ConditioningImages,
    *,
    weighting: Weighting | None = None,
) -> Tensor:
    """w(t) mean |f(h, t) - target|^2 of each image, [B], with h what a method made of x_t: the loss that compares a
    denoised input with the noise it lost.
    """
    noise, time = cast(tuple[Tensor, Tensor], (conditioning_images.noise, conditioning_images.time))
    asked = denoiser.training_pair(x0, noise, time)
    output = denoiser.output(conditioning_images.image.to(x0.dtype), asked.time)
    return weighted_error(denoiser, asked, output, weighting)
