"""Trains a diffusion prior: Ho et al. 2020 (2006.11239) and its variants by config."""

from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from checkpoints.prior import describe_prior
from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from diffusion.assemble import assemble
from diffusion.class_conditioning import ClassConditioning
from diffusion.denoiser import Condition, DiscreteDenoiser, NetworkDenoiser
from diffusion.drawing import draw
from diffusion.levels import spaced_sigmas
from diffusion.losses import check_loss, denoising_loss
from diffusion.samplers.base import Sampler
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import TrainingLevels
from diffusion.variational import bound_term, chain_time, prior_bits
from diffusion.weighting.base import Weighting
from diffusion.weighting.simple import Simple
from lightning_modules.prior import BinnedLoss, PriorModule, check_shape


class DDPM(PriorModule):
    """E_{t, noise} w(t) |f(input, t) - target|^2 -> min over the noise levels of a schedule.

    Logged: train/loss, train/grad_norm, images; val/loss and val/loss_<bin> (t<first>-<last> in training times,
    q<first>-<last> in thousandths of the times of EDM or a flow), on noise and times that are the same at every
    validation; with learned variance val/bits_per_dim, an estimate of the variational bound.

    The other arguments: see TrainedModule. Options that contradict each other are a UserError.

    Args:
        network: called as network(input, time, label).
        schedule: alpha-bar by time; diffusion.edm.LogNormal for prediction "edm", UniformTimes or LogitNormalTimes of
            diffusion/flow.py for "velocity".
        data_shape: (C, H, W) of the images.
        sampler: how sample grids and ``predict`` draw.
        prediction: what the network gives, "epsilon", "x0", "v", "edm" (diffusion/edm.py, with sigma_data) or
            "velocity" (flow matching on straight paths, diffusion/flow.py, with weighting Target).
        weighting: w(t), how much each noise level counts: a class of diffusion/weighting; where it is not given uniform
            on epsilon, as in Ho et al.
        sigma_data: of prediction "edm": the standard deviation of the data in [-1, 1]; 0.5 is EDM's for natural images.
        variance: "fixed" (default), or "learned_range": a network of 2 C output channels is trained with the hybrid
            loss, see diffusion/losses.py.
        vlb_weight: of the variational bound in the hybrid loss, at least 0 (default 0.001, Nichol and Dhariwal 2021).
        label_dropout: of a network with classes: probability with which a training image loses its label, which
            guidance needs; null: 0.1 (Ho and Salimans 2022), or none for a network without classes.
        guidance_scale: of classifier-free guidance while drawing; 1 (default) is the conditional model.
        guidance_interval: (low, high) in sigma within which drawing is guided; null: everywhere.
        guidance_rescale: phi in [0, 1], how far the contrast of a guided x0 is pulled back to that of the unguided
            (default 0: not).
        sampling_label: the label of all drawn images; null: image i has label i mod num_classes.
        sampling_steps: steps of the sampler, calls of the network for one of order one (default 50).
        spacing: of the sampler's levels: "trailing" (default), "leading", "linspace" or "karras", see
            diffusion/levels.py.
        levels: how many bins of noise level the validation loss is reported in, equally frequent in training (default
            5).
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        schedule: TrainingLevels,
        data_shape: list[int],
        sampler: Sampler,
        prediction: Literal["epsilon", "x0", "v", "edm", "velocity"] = "epsilon",
        weighting: Weighting = Simple(),  # noqa: B008 (without state; the parser shows it as class_path)
        sigma_data: float = 0.5,
        variance: Literal["fixed", "learned_range"] = "fixed",
        vlb_weight: float = 0.001,
        label_dropout: float | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        guidance_rescale: float = 0.0,
        sampling_label: int | None = None,
        sampling_steps: int = 50,
        spacing: str = "trailing",
        levels: int = 5,
        **options,
    ) -> None:
        super().__init__(**options)
        check_shape(data_shape)
        try:
            self.denoiser = self._assembled(
                network=network,
                schedule=schedule,
                prediction=prediction,
                data_shape=tuple(data_shape),
                variance=variance,
                sigma_data=sigma_data,
            )
            self.weighting = weighting
            check_loss(self.denoiser, self.weighting, vlb_weight)
            self.conditioning = ClassConditioning(
                getattr(network, "num_classes", None),
                label_dropout,
                guidance_scale,
                guidance_interval,
                guidance_rescale,
                sampling_label,
            )
            self.conditioning.guided(self.denoiser)
            sampler.check(self.denoiser)
        except ValueError as error:
            raise UserError(f"model: {error}") from error
        try:
            self.sampling_sigmas = sampler.suited(spaced_sigmas(self.denoiser, sampling_steps, spacing))
        except ValueError as error:
            raise UserError(f"model.sampling_steps or model.spacing does not fit: {error}") from error
        self.sampler, self.vlb_weight = sampler, vlb_weight
        self.validation_losses = BinnedLoss(self.denoiser.bins, levels)
        self.validation_bits = MeanMetric() if self.denoiser.learns_variance else None

    @property
    def network(self) -> nn.Module:
        return self.denoiser.network

    @property
    def data_shape(self) -> tuple[int, int, int]:
        return self.denoiser.data_shape

    def describe(self, data: str) -> dict[str, Any]:
        training = {
            "images": self.images_seen,
            "steps": self.global_step,
            "weighting": self.weighting.spec,
            "learning_rate": self.learning_rate,
        }
        return describe_prior(self.denoiser, data=data, training=training)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "predict":
            self.check_drawing(begun=False)
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None and stage == "fit":
            images = datamodule.images("train")
            try:
                self.conditioning.check_labels(images.store.label[images.positions])
            except ValueError as error:
                raise UserError(f"model.network does not suit {type(datamodule).__name__}: {error}") from error

    def check_drawing(self, *, begun: bool) -> None:
        """Refuse levels that the sampler cannot walk; a run that goes on from before that was asked draws with DDIM."""
        try:
            self.sampler.check_first_step(self.sampling_sigmas.tolist())
        except ValueError as error:
            message = f"model.sampling_steps or model.spacing does not fit: {error}"
            if not begun:
                raise UserError(message) from error
            rank_zero_warn(f"{message}; until then pictures are drawn with DDIM")
            self.sampler = DDIM()

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        count = (len(batch.image),)
        time = self.denoiser.training_time(self.global_noise(count, generator, uniform=True))
        noise = self.global_noise(tuple(batch.image.shape), generator)
        dropped = (
            self.global_noise(count, generator, uniform=True) if self.conditioning.num_classes is not None else None
        )
        return self._loss(batch, noise, time, self.conditioning.of_training(batch.label, dropped))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        # Golden-ratio steps spread the times of any set of images evenly; keyed by the index, so every validation asks
        # the same questions.
        u = (batch.index.double() * 0.6180339887498949) % 1.0
        time = self.denoiser.training_time(u)
        index = batch.index.tolist()
        noise = RandomStreams(self.seed).normal_batch(
            "validation", index, [0] * len(index), batch.image.shape[1:], batch.image.device
        )
        condition = self.conditioning.of_training(batch.label, None)
        loss = self._loss(batch, noise, time, condition)
        self.validation_losses.update(loss, self.denoiser.bin_of(time, self.validation_losses.count))
        if self.validation_bits is not None:
            # The term of t = 0 is asked of every image; of the T - 1 others each image stands for one: over the images
            # an estimate without bias.
            chosen, count = chain_time(u, self.denoiser.num_timesteps)
            discrete = cast(DiscreteDenoiser, self.denoiser)  # no other one learns a variance
            decoder, chain = (
                bound_term(discrete, batch.image, noise, t, condition=condition)
                for t in (torch.zeros_like(chosen), chosen)
            )
            self.validation_bits.update(prior_bits(discrete, batch.image) + decoder + count * chain)

    def on_validation_epoch_end(self) -> None:
        metrics = self.validation_losses.metrics()
        if self.validation_bits is not None:
            metrics["val/bits_per_dim"] = self.validation_bits
        self.log_means(metrics, shown="val/loss")

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def generate(self, index: list[int]) -> Tensor:
        training = self.network.training
        self.network.eval()
        condition = self.conditioning.of_drawing(index, self.device)
        guided, random = self.conditioning.guided(self.denoiser), RandomStreams(self.seed)
        x = draw(
            guided,
            self.sampler,
            self.sampling_sigmas,
            index=index,
            random=random,
            device=self.device,
            condition=condition,
        )
        self.network.train(training)
        return x

    def _assembled(self, **parts: Any) -> NetworkDenoiser:
        """The denoiser of these parts; ValueError where they do not fit."""
        return assemble(**parts)

    def _loss(self, batch: Batch, noise: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        image = batch.image.contiguous(memory_format=torch.channels_last) if self.channels_last else batch.image
        return denoising_loss(
            self.denoiser, image, noise, time, weighting=self.weighting, vlb_weight=self.vlb_weight, condition=condition
        )
