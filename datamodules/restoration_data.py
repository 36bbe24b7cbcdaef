"""Pictures as measurements that a method is to undo, each for itself: what `train.py fit` gives to a deep image prior
instead of batches.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from datamodules.run_data import RunData
from degradations.base import Degradation, Operator, Params, Shape
from degradations.given_mask import masks_in
from degradations.identity import Identity
from degradations.mask import Mask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise, Noise


@dataclass(frozen=True)
class Item:
    """One picture to restore.

    Args:
        index: what its random numbers are keyed by.
        image: float32 [C, H, W] in [-1, 1]: the clean picture, or its measurement where the data are degraded already.
        known: bool [1, H, W], None where every pixel is.
        truth: [C, H', W'] where it is known.
    """

    name: str
    index: int
    image: Tensor
    known: Tensor | None = None
    truth: Tensor | None = None


class RestorationData(RunData):
    """y = A x + n for each of some pictures x, or such y as they are.

    Args:
        degradation: A; null: none, or what is missing in the pictures themselves.
        noise: n; null: none.
        seed: of A and n.
        limit: only the first so many pictures. Options out of range: UserError.
    """

    #: Whether the pictures are measurements already, so that nothing is added to them.
    degraded: bool = False

    def __init__(
        self,
        *,
        degradation: Degradation | None = None,
        noise: Noise | None = None,
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if limit is not None and limit < 1:
            raise UserError(f"limit must be at least 1, got {limit}")
        self.degradation, self.noise, self.seed, self.limit = (
            degradation,
            noise or GaussianNoise(sigma=0.0),
            seed,
            limit,
        )
        self._items: list[Item] | None = None

    @abstractmethod
    def _read(self) -> list[Item]:
        """All pictures, names unique and fit for a file; UserError where one is missing or cannot be read."""

    # What a restoration asks.

    @property
    def items(self) -> list[Item]:
        """The pictures, read at the first call."""
        if self._items is None:
            self._items = self._read()[: self.limit]
            for item in self._items:
                if item.known is not None and self.degradation is not None:
                    raise UserError(
                        f"picture '{item.name}' has missing pixels, and data.degradation is given too: give one of them"
                    )
        return self._items

    @property
    def names(self) -> list[str]:
        return [item.name for item in self.items]

    def shape(self, row: int) -> Shape:
        """(C, H, W) of what is to be found for the picture in this row."""
        c, h, w = self.items[row].image.shape
        shape = (c, h, w)
        return self._recipe([row]).clean_shape(shape) if self.degraded else shape

    def measurement(self, rows: Sequence[int]) -> Measurement:
        """The measurement of these pictures, which have one shape, on the CPU; the same for each alone and beside
        others. UserError where A does not fit.
        """
        items = [self.items[row] for row in rows]
        index, random, recipe = tuple(item.index for item in items), RandomStreams(self.seed), self._recipe(rows)
        stacked = torch.stack([item.image for item in items])
        truths = [item.truth for item in items if item.truth is not None]
        if not self.degraded:
            return measure(stacked, degradation=recipe, noise=self.noise, index=index, random=random)
        operator = recipe.operator_for(self.shape(rows[0]), index, random)
        y = stacked if operator.mask is None else stacked * operator.mask
        truth = torch.stack(truths) if len(truths) == len(items) else None
        return Measurement(
            y=y, operator=operator, noise=self.noise, index=index, truth=self._checked(truth, operator, items)
        )

    def _recipe(self, rows: Sequence[int]) -> Degradation:
        known = [self.items[row].known for row in rows]
        if all(k is None for k in known):
            return self.degradation or Identity()
        shapes = [self.items[row].image.shape[1:] for row in rows]
        return _Known(
            torch.stack(
                [torch.ones(1, *s, dtype=torch.bool) if k is None else k for k, s in zip(known, shapes, strict=True)]
            )
        )

    @staticmethod
    def _checked(truth: Tensor | None, operator: Operator, items: list[Item]) -> Tensor | None:
        if truth is not None and tuple(truth.shape[1:]) != tuple(operator.input_shape):
            (_, h, w), (c, height, width) = truth.shape[1:], operator.input_shape
            raise UserError(
                f"the truth of '{items[0].name}' has {truth.shape[1]} channel(s) and {w}x{h} pixels (width x "
                f"height), and what is restored has "
                f"{c} and {width}x{height}: give the truth in the size and colours of the restored picture"
            )
        return truth

    # What train.py asks.

    def prepare_data(self) -> None:
        """Read the pictures: UserError where they are missing."""
        self.items  # noqa: B018 (reads)

    def batch_per_process(self, world_size: int) -> int:
        count = len(self.items)
        if count < world_size:
            raise UserError(
                f"data has {_count(self.items)} for {world_size} processes, and each is fitted by one: set "
                f"trainer.devices to at most {count}"
            )
        return -(-count // world_size)

    def contents(self) -> str:
        sizes = sorted({tuple(self.shape(row)) for row in range(len(self.items))})
        shown = ", ".join(map(str, map(list, sizes[:3]))) + (
            f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        )
        missing = ""
        if any(item.known is not None for item in self.items):
            pixels = sum(item.image[0].numel() for item in self.items)
            known = sum(item.image[0].numel() if item.known is None else int(item.known.sum()) for item in self.items)
            missing = f", {100 * (1 - known / pixels):.1f} % of the pixels are missing"
        for mask in masks_in(self.degradation) if self.degradation is not None else ():
            missing += f", {100 * mask.missing:.1f} % of the pixels are missing in the mask '{mask.path}'"
        return f"{type(self).__name__}, {_count(self.items)} of {shown}{missing}"

    def sharing(self, processes: int) -> str:
        most = self.batch_per_process(processes)
        return (
            _count(self.items)
            if processes == 1
            else f"{_count(self.items)}, at most {most} on each of the {processes} processes that the config names"
        )

    def train_dataloader(self) -> "_Iterations":
        """A batch per iteration, without end: the indices alone, for what is fitted is with the module."""
        index = torch.tensor([item.index for item in self.items])
        return _Iterations(Batch(torch.empty(len(index), 0), index, torch.full_like(index, -1)))


def _count(items: Sequence[Item]) -> str:
    return f"{len(items)} picture{'s' if len(items) != 1 else ''}"


class _Known(Degradation):
    """The missing pixels of pictures as they are: one mask per picture."""

    def __init__(self, known: Tensor) -> None:
        self.known = known

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        return Mask(self.known.float(), channels=shape[0], description="missing pixels")


class _Iterations:
    """The same batch for ever; an iteration's state is with what is fitted."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
