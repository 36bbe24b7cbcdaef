"""Trains the small classifiers whose features the distances between sets of images are measured in."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from checkpoints.classifier import describe_classifier
from common.batch import Batch
from common.errors import UserError
from common.shapes import image_shape
from lightning_modules.base import TrainedModule
from networks.resnet import ResNet


class Classifier(TrainedModule):
    """-sum_k q_k log softmax(network(x))_k -> min, q the label's one-hot vector mixed with label_smoothing / K.

    Logged: train/loss, train/grad_norm, images; val/loss, val/accuracy, test/accuracy: exact, over all processes.

    Args:
        network: images [B, C, H, W] to logits [B, K].
        data_shape: (C, H, W).
        label_smoothing: share of the label that is spread over all K classes, in [0, 1) (default 0.05).
        shift: every training image is moved by up to so many pixels in both directions (edges are repeated), drawn from
            the keyed noise of the step.
        decay: "cosine" lets the learning rate fall to 0 at trainer.max_steps, "none" keeps it.

    Raises:
        UserError: options out of range, images without labels, and labels that the network has no class for.
    """

    def __init__(
        self,
        *,
        network: ResNet,
        data_shape: list[int],
        label_smoothing: float = 0.05,
        shift: int = 2,
        decay: Literal["cosine", "none"] = "cosine",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 200,
        **options,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, warmup_steps=warmup_steps, **options)
        if len(data_shape) != 3 or min(data_shape) < 1 or data_shape[0] != network.in_channels:
            raise UserError(
                f"model.data_shape must be [channels, height, width] with the network's {network.in_channels} channels,"
                f" got {data_shape}"
            )
        if not 0 <= label_smoothing < 1 or not 0 <= shift < min(data_shape[1:]):
            raise UserError(
                "model.label_smoothing must lie in [0, 1) and model.shift be less than the image, got"
                f" {label_smoothing} and {shift}"
            )
        self.classifier, self.shape = network, image_shape(data_shape)
        self.label_smoothing, self.shift, self.decay = label_smoothing, shift, decay
        self.mean_loss, self.accuracy = MeanMetric(), MeanMetric()

    @property
    def network(self) -> nn.Module:
        return self.classifier

    @property
    def data_shape(self) -> tuple[int, int, int]:
        return self.shape

    def descriptions(self, data: str) -> dict[str, Any]:
        training = {"images": self.images_seen, "steps": self.global_step, "learning_rate": self.learning_rate}
        return {"classifier": describe_classifier(self.classifier, shape=self.shape, data=data, training=training)}

    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        splits = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}.get(stage, ())
        if datamodule is None:
            return
        for split in splits:
            images = datamodule.images(split)
            label = images.store.label[images.positions]
            if len(label) and not 0 <= int(label.min()) <= int(label.max()) < self.classifier.num_classes:
                seen = "images without labels" if int(label.min()) < 0 else f"labels up to {int(label.max())}"
                raise UserError(
                    f"{type(datamodule).__name__} has {seen}, and model.network has {self.classifier.num_classes}"
                    " classes: make them equal"
                )

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        image = batch.image
        if self.shift:
            u = self.global_noise((len(image), 2), generator, uniform=True)
            image = moved(image, (u * (2 * self.shift + 1)).long() - self.shift)
        return F.cross_entropy(
            self.classifier(image).float(), batch.label, label_smoothing=self.label_smoothing, reduction="none"
        )

    def configure_optimizers(self) -> dict[str, Any]:
        options = super().configure_optimizers()
        if self.decay == "cosine":
            total = max(1, int(self.trainer.estimated_stepping_batches))
            warmup = max(1, self.warmup_steps)
            schedule = LambdaLR(
                options["optimizer"],
                lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))),
            )
            options["lr_scheduler"]["scheduler"] = schedule
        return options

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        logits = self.classifier(batch.image).float()
        self.mean_loss.update(F.cross_entropy(logits, batch.label, reduction="none"))
        self.accuracy.update((logits.argmax(1) == batch.label).float())

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        self._log_means("test")

    def _log_means(self, name: str) -> None:
        for key, metric in {"loss": self.mean_loss, "accuracy": self.accuracy}.items():
            self.log(f"{name}/{key}", metric.compute(), prog_bar=True)
            metric.reset()


def moved(image: Tensor, by: Tensor) -> Tensor:
    """Each image [B, C, H, W] moved down and to the right by whole pixels `by` int64 [B, 2]; what comes in repeats the
    edge.
    """
    count, channels, height, width = image.shape
    rows = (torch.arange(height, device=image.device) - by[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - by[:, 1:]).clamp(0, width - 1)
    batch = torch.arange(count, device=image.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=image.device).view(1, -1, 1, 1)
    # All four dimensions are indexed, so that the result is contiguous: a permuted one would make every layer after it
    # run in channels_last memory, where group normalisation in bfloat16 is several times slower on a CPU.
    return image[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]
