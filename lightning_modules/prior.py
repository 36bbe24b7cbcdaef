"""What all trained priors share beyond training: they draw images, and their checkpoints carry the key `prior`."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from common.batch import Batch
from common.errors import UserError
from lightning_modules.base import TrainedModule


class BinnedLoss(nn.Module):
    """Means of the validation loss over all images, and over those of each of `count` ranges of training times, exact
    over all processes.

    Args:
        bins: names of so many ranges.

    Raises:
        UserError: a count below 1.
    """

    def __init__(self, bins: Callable[[int], list[str]], count: int) -> None:
        super().__init__()
        if count < 1:
            raise UserError(f"model.levels must be at least 1, got {count}")
        self.count, self.names = count, [f"val/loss_{name}" for name in bins(count)]
        self.parts, self.whole = nn.ModuleList(MeanMetric() for _ in range(count)), MeanMetric()

    def update(self, loss: Tensor, bin_of: Tensor) -> None:
        """loss [B] of images whose times lie in the ranges `bin_of` [B]."""
        for k, metric in enumerate(self._parts()):
            metric.update(loss[bin_of == k])
        self.whole.update(loss)

    def _parts(self) -> list[MeanMetric]:
        return cast(list[MeanMetric], list(self.parts))

    def metrics(self) -> dict[str, MeanMetric]:
        """By the name under which they are logged."""
        return {**dict(zip(self.names, self._parts(), strict=True)), "val/loss": self.whole}


class PriorModule(TrainedModule):
    """A prior in training: a leaf says, beside its loss, how images are drawn and how evaluation builds it again."""

    #: How many images side by side its network sees: 2 where it is shown something beside the noisy image.
    images_side_by_side: int = 1

    @property
    def generates(self) -> bool:
        """Whether :meth:`generate` can be called at all."""
        return True

    @abstractmethod
    def generate(self, index: list[int]) -> Tensor:
        """Draw one image for each index, [B, C, H, W] in [-1, 1]; keyed by the index, thus the same for any batch and
        step of training.
        """

    def check_drawing(self, *, begun: bool) -> None:
        """UserError where images cannot be drawn, before anything is trained; where a run is `begun` already it keeps
        its training, with a warning.
        """
        del begun

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.check_drawing(begun=bool(self.images_seen))

    def samples(self, count: int, batch_size: int) -> tuple[Tensor, int | None]:
        """What a grid shows during training, about `count` images, and its columns (None: a square): images drawn from
        the prior.
        """
        index = list(range(count))
        return torch.cat([self.generate(index[i : i + batch_size]) for i in range(0, count, batch_size)]), None

    @abstractmethod
    def describe(self, data: str) -> dict[str, Any]:
        """The `prior` dictionary of checkpoints/prior.py; `data`: name of the data set."""

    def descriptions(self, data: str) -> dict[str, Any]:
        return {"prior": self.describe(data)}

    def log_means(self, metrics: dict[str, MeanMetric], *, shown: str) -> None:
        """Log and reset them; `shown` in the progress bar too."""
        for name, metric in metrics.items():
            # summed over all processes; NaN where no image of the validation set fell into a range
            value = metric.compute()
            if not torch.isnan(value):
                self.log(name, value, prog_bar=name == shown)
            metric.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """(index [B], images [B, C, H, W]): what ``train.py predict`` writes."""
        del batch_idx
        return batch.index, self.generate(batch.index.tolist())


def check_shape(data_shape: list[int]) -> None:
    """UserError where it is not (channels, height, width)."""
    if len(data_shape) != 3 or min(data_shape) < 1:
        raise UserError(f"model.data_shape must be [channels, height, width], got {data_shape}")
