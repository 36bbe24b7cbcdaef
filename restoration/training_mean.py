"""The mean of the training images, whatever was measured."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.build import build
from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported

if TYPE_CHECKING:
    from datamodules.base import ImageDataModule


class TrainingMean(Method):
    """x = mean of the first `images` training images: the least expected squared error of an answer that has not seen
    y, which a method has to beat.

    Deterministic, no network call. y is used for the shape alone.

    Args:
        data: the data set, {class_path, init_args} or a class path of datamodules/; its training part is read at the
            first restoration.
        images: of its training images, the first so many, at least 1; fewer where there are fewer.

    Raises:
        ValueError: images out of range.
    """

    deterministic = True

    def __init__(self, *, data: dict[str, Any] | str, images: int = 10000) -> None:
        if images < 1:
            raise ValueError(f"images must be at least 1, got {images}")
        self.data, self.images = {"class_path": data} if isinstance(data, str) else data, images
        self._mean: Tensor | None = None

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        shape = tuple(self._module.shape)
        if shape != tuple(operator.input_shape):
            raise Unsupported(
                f"the training images of {self.data['class_path']} are {'x'.join(map(str, shape))}, those to restore"
                f" {'x'.join(map(str, operator.input_shape))}: give training_mean the data of the images"
            )

    def calls(self) -> Cost:
        return Cost()

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        x = self.mean().to(measurement.y).repeat(len(measurement.y), 1, 1, 1)
        if on_step is not None:
            on_step(0, 1, x)
        return Restoration(samples=x.unsqueeze(1))

    def mean(self) -> Tensor:
        """[C, H, W] in [-1, 1], computed once."""
        if self._mean is None:
            self._module.prepare_data()
            images = self._module.images("train")
            n, total = min(self.images, len(images)), torch.zeros(images.shape(0), dtype=torch.float64)
            for start in range(0, n, 250):
                total += to_float(images.get(range(start, min(start + 250, n))).image).double().sum(0).cpu()
            self._mean = (total / n).float()
        return self._mean

    @cached_property
    def _module(self) -> "ImageDataModule":
        from datamodules.base import ImageDataModule  # late: it imports Lightning, which a list of methods need not

        return build(self.data, ImageDataModule, where="training_mean.data")
