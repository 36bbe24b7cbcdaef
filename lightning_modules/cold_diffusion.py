"""Trains a restorer for the severities of any degradation: Bansal et al. 2022 (2208.09392)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from checkpoints.cold_restorer import describe_cold_restorer
from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from common.shapes import image_shape
from degradations.base import Params
from degradations.severity.base import SeverityFamily
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold import ALGORITHMS, Algorithm, cold_sample, severities_from
from diffusion.cold_restorer import ColdRestorer
from diffusion.cold_starts.base import Start
from lightning_modules.prior import BinnedLoss, PriorModule, check_shape

LARGEST_FIT = 50_000  # training images that a start is fitted to


class ColdDiffusion(PriorModule):
    """E_{t uniform in 1..T} |R(D(x, t), t) - x|_1 -> min, the mean over pixels; what is random in D is drawn once per
    image and step.

    Logged: train/loss, train/grad_norm, images; val/loss and val/loss_s<first>-<last>, on severities and parameters
    that are the same at every validation.

    The other arguments: see TrainedModule. Options that contradict each other are a UserError.

    Args:
        network: called as network(x_t, t - 1, label).
        family: D, see degradations/severity/.
        data_shape: (C, H, W).
        loss: "l1" (the paper), or "l2" for ablations.
        start: where generation begins, see diffusion/cold_starts/; null for a restorer that is not to generate: its
            sample grids show validation images degraded to T, restored in one step and by `algorithm`, and the truth.
        algorithm: how grids and ``predict`` restore: "direct", "naive" (algorithm 1) or "improved" (algorithm 2), see
            diffusion/cold.py.
        sampling_steps: calls of the network along evenly spaced severities; null: all severities.
        estimated_noise: of the Gaussian family.
        levels: how many ranges of severities the validation loss is reported in.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        family: SeverityFamily,
        data_shape: list[int],
        loss: Literal["l1", "l2"] = "l1",
        start: Start | None = None,
        algorithm: Algorithm = "improved",
        sampling_steps: int | None = None,
        estimated_noise: bool = False,
        levels: int = 5,
        **options,
    ) -> None:
        super().__init__(**options)
        check_shape(data_shape)
        if loss not in ("l1", "l2"):
            raise UserError(f"model.loss must be l1 or l2, got '{loss}'")
        try:
            self.restorer = ColdRestorer(network=network, family=family, data_shape=image_shape(data_shape))
            self.sampling_severities = severities_from(family.severities, sampling_steps)
            if algorithm not in ALGORITHMS:
                raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got '{algorithm}'")
            if estimated_noise and not isinstance(family, GaussianNoiseFamily):
                raise ValueError(
                    f"estimated_noise is for the Gaussian family, and this is {family.description}: set it to false"
                )
            if start is not None:
                start.check(family, image_shape(data_shape))
        except (ValueError, UserError) as error:
            raise UserError(f"model: {error}") from error
        self.algorithm: Algorithm = algorithm
        self.loss, self.start, self.estimated_noise = loss, start, estimated_noise
        self.validation_losses = BinnedLoss(self.restorer.bins, levels)

    @property
    def network(self) -> nn.Module:
        return self.restorer.network

    @property
    def data_shape(self) -> tuple[int, int, int]:
        return self.restorer.data_shape

    def describe(self, data: str) -> dict[str, Any]:
        training = {
            "images": self.images_seen,
            "steps": self.global_step,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
        }
        return describe_cold_restorer(self.restorer, data=data, start=self.start, training=training)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self.start is not None and not self.start.fitted and datamodule is not None:
            images = datamodule.images("train")
            count = min(len(images), LARGEST_FIT)  # evenly spaced: a folder comes in the order of its classes
            self.start.fit(images.get([k * len(images) // count for k in range(count)]).image)

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        count = len(batch.image)
        severity = (self.global_noise((count,), generator, uniform=True) * self.restorer.severities).long().clamp_(
            max=self.restorer.severities - 1
        ) + 1
        drawn = self.restorer.family.sample(count * self.trainer.world_size, self.data_shape, generator)
        return self._loss(batch.image, severity, {name: self.of_this_process(value) for name, value in drawn.items()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        # Golden-ratio steps spread the severities of any set of images evenly; keyed by the index, so every validation
        # asks the same questions.
        u = (batch.index.double() * 0.6180339887498949) % 1.0
        severity = (u * self.restorer.severities).long() + 1
        loss = self._loss(batch.image, severity, self._params(batch.index.tolist()))
        self.validation_losses.update(loss, self.restorer.bin_of(severity, self.validation_losses.count))

    def on_validation_epoch_end(self) -> None:
        self.log_means(self.validation_losses.metrics(), shown="val/loss")

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    @property
    def generates(self) -> bool:
        return self.start is not None

    def generate(self, index: list[int]) -> Tensor:
        if self.start is None:
            raise UserError(
                "model.start is null, so this restorer does not generate: give a start of diffusion/cold_starts/, or"
                " restore with evaluate.py"
            )
        x, params = self.start.draw(RandomStreams(self.seed), index, self.restorer.family, self.data_shape, self.device)
        return self._sample(x, params, self.algorithm)

    def samples(self, count: int, batch_size: int) -> tuple[Tensor, int | None]:
        """Generated images, or, without a start, rows of validation images: degraded, restored in one step, restored by
        the algorithm, and as they were.
        """
        if self.start is not None:
            return super().samples(count, batch_size)
        images = self.trainer_parts.datamodule.images("validation")
        columns = min(max(1, count // 4), len(images))
        if not columns:
            raise UserError(
                "samples.count needs validation images to degrade, and data.validation is 0: hold some out, or set"
                " samples.count to 0"
            )
        batch = images.get(range(columns))
        x0 = self.trainer_parts.datamodule.on_after_batch_transfer(
            batch._replace(image=batch.image.to(self.device)), 0
        ).image
        params = self._params(batch.index.tolist())
        x = self.restorer.family(x0, self.restorer.severities, params)
        return torch.cat([x, self._sample(x, params, "direct"), self._sample(x, params, self.algorithm), x0]), columns

    def _sample(self, x: Tensor, params: Params, algorithm: Algorithm) -> Tensor:
        training = self.network.training
        self.network.eval()
        x = cold_sample(
            self.restorer,
            x,
            self.sampling_severities,
            params,
            algorithm=algorithm,
            estimated_noise=self.estimated_noise,
        )
        self.network.train(training)
        return x

    def _params(self, index: list[int]) -> Params:
        return self.restorer.family.draw_batch(RandomStreams(self.seed), index, self.data_shape, self.device)

    def _loss(self, image: Tensor, severity: Tensor, params: Params) -> Tensor:
        x = self.restorer.family(image, severity, params)
        x = x.contiguous(memory_format=torch.channels_last) if self.channels_last else x
        distance = F.l1_loss if self.loss == "l1" else F.mse_loss
        return distance(self.restorer.predict(x, severity).float(), image.float(), reduction="none").mean((1, 2, 3))
