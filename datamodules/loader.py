"""Loaders of uint8 batches: one for training whose position is saved with the checkpoint, one for everything that is
evaluated.

Both know the number of processes themselves: the trainer runs with ``use_distributed_sampler: false``.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.batch import Batch
from common.errors import UserError
from common.random_streams import RandomStreams
from common.stop_signals import leave_stop_signals_to_parent
from datamodules.reweighting import drawn_rows
from datamodules.store import ImageSet, MemoryStore


class ResumableLoader:
    """Batch k of epoch e on rank r of W: ``perm_e[k W B + r B : k W B + (r + 1) B]``, ``perm_e`` a permutation drawn
    from (seed, e).

    The last incomplete global batch of an epoch is dropped; a set smaller than one global batch is repeated to fill
    it, with a warning. With weights of groups ``perm_e`` is that many rows drawn with them, with replacement, the same
    on every process; new ones hold from the next epoch on (:meth:`reweight`). ``state_dict`` holds the epoch and the
    number of images given in it by all processes, nothing of the rank; Lightning saves it with every checkpoint. A run
    restored from it goes on with exactly the images that the epoch had not given yet.

    in_flight: tells whether the newest batch was fetched but not trained on (an exception inside the step); it is
    then not counted. epoch_batches: batches after which the trainer ends an epoch early (``limit_train_batches``),
    None where it does not.

    Args:
        images: the training images; batch_size B: images per process and step.
        workers: processes that decode files (0: this process; sets in memory never use any).
        pin: page-locked batches, for an accelerator.
        groups: the group 0 .. G - 1 of every image, int64, together with `weights`.
        weights: of the groups, float64 [G]: how often their images are drawn.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        pin: bool = False,
        groups: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        if len(images) == 0:
            raise ValueError("images must hold at least one image, got an empty set")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_size must be at least 1 and rank in 0..world_size-1, got {batch_size}, {rank} of {world_size}"
            )
        self.images, self.batch_size, self.seed, self.rank, self.world_size = images, batch_size, seed, rank, world_size
        self.workers, self.pin, self.groups, self.weights = workers, pin, groups, weights
        self._first_weights = self._next_weights = weights
        self.in_flight: Callable[[], bool] = lambda: False
        self.epoch_batches: int | None = None
        self._epoch, self._given = 0, 0
        self._begun = False  # whether (epoch, given) belong to an iteration that began in this process
        warn_of_repeats(len(images), self.global_batch)

    @property
    def global_batch(self) -> int:
        """Images per step over all processes."""
        return self.batch_size * self.world_size

    @property
    def epoch(self) -> int:
        """The epoch of the newest batch."""
        return self._epoch

    def __len__(self) -> int:
        return max(1, len(self.images) // self.global_batch)

    def order(self, epoch: int) -> Tensor:
        """The rows of one epoch, int64: a permutation, repeated up to one global batch where the set is smaller; with
        weights as many rows, drawn.
        """
        n = len(self.images)
        if self.groups is not None and self.weights is not None:
            generator = RandomStreams(self.seed).generator("weighted training order", epoch)
            return drawn_rows(self.weights[self.groups], max(n, self.global_batch), generator)
        order = torch.from_numpy(RandomStreams(self.seed).generator("training order", epoch).permutation(n))
        return order if n >= self.global_batch else order[torch.arange(self.global_batch) % n]

    @property
    def newest_weights(self) -> Tensor | None:
        """Of the groups, [G], those that hold from the next epoch on."""
        return self._next_weights

    def reweight(self, weights: Tensor) -> Tensor:
        """Draw with these weights of the groups, [G], from the next epoch on; ValueError where there are no groups."""
        if self.groups is None or self.weights is None or weights.shape != self.weights.shape:
            raise ValueError("there are no groups of images with so many weights: give the data set a reweighting")
        self._next_weights = weights.double().cpu()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """The position: epoch, images given in it by all processes, number of images in the set; the weights of the
        groups in the first epoch, in this one and from the next one on, where there are any.
        """
        given = self._given - (self.global_batch if self._given and self.in_flight() else 0)
        state: dict[str, Any] = {"epoch": self._epoch, "given": given, "images": len(self.images)}
        names = ("first_weights", "weights", "next_weights")
        for name, found in zip(names, (self._first_weights, self.weights, self._next_weights), strict=True):
            if found is not None:
                state[name] = found.tolist()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a saved position, with the weights of groups that were saved with it; where the set has another
        number of images or other weights to begin with now, with the next epoch and its own weights, and a warning.
        """
        self._epoch, self._given, self._begun = int(state["epoch"]), int(state["given"]), False
        own = None if self._first_weights is None else self._first_weights.tolist()
        changed = ""
        if state["images"] != len(self.images):
            changed = f"the training set has {len(self.images)} images, but had {state['images']} when the run stopped"
        # Checkpoints of before have no first ones; those of a run without weights have none at all.
        elif not _alike(own, state.get("first_weights", own if "weights" in state else None)):
            changed = "the run began with other weights of groups of images (data.reweighting)"
        elif own is not None and len(state["weights"]) == len(own):
            self.weights, self._next_weights = (
                torch.tensor(state[name], dtype=torch.float64) for name in ("weights", "next_weights")
            )
        if changed and self._given:
            warnings.warn(f"{changed}: beginning a new epoch", stacklevel=2)
            self._epoch, self._given = self._epoch + 1, 0

    def _finished(self) -> bool:
        batches = len(self) if self.epoch_batches is None else min(len(self), self.epoch_batches)
        return self._given > 0 and self._given + self.global_batch > min(len(self.images), batches * self.global_batch)

    def __iter__(self) -> Iterator[Batch]:
        # A generator, so that nothing moves before the first batch is asked for: Lightning calls iter() on trial. The
        # step to the next epoch is at the beginning, because Lightning does not exhaust a sized loader.
        if self._begun or self._finished():
            self._epoch, self._given = self._epoch + 1, 0
            self.weights = self._next_weights
        self._begun = True
        epoch, order, size = self._epoch, self.order(self._epoch), self.global_batch
        starts = range(self._given, len(order) - size + 1, size)
        mine = [order[s + self.rank * self.batch_size : s + (self.rank + 1) * self.batch_size] for s in starts]
        for rows, batch in zip(mine, _batches(self.images, mine, epoch, self.workers), strict=True):
            self._given += size
            yield _pinned(_filled(batch, len(rows)), self.pin)


def _alike(one: list[float] | None, other: list[float] | None) -> bool:
    """Equal but for the rounding of another machine's powers; or None both."""
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other, strict=True))


def warn_of_repeats(images: int, batch: int) -> None:
    """A warning where a batch is larger than the set; asked twice it is said once, because it comes from one line."""
    if images < batch:
        warnings.warn(
            f"the training set has {images} images, fewer than a batch of {batch}: images are repeated inside a batch;"
            " a smaller batch_size avoids it",
            stacklevel=1,
        )


class EvaluationLoader:
    """Rank r of W gives rows r, r + W, r + 2W, ... in order, in batches of at most B images of one size.

    Nothing is padded, repeated or dropped, so that the ranks together give every image once.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        pin: bool = False,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_size must be at least 1 and rank in 0..world_size-1, got {batch_size}, {rank} of {world_size}"
            )
        self.images, self.workers, self.pin = images, workers, pin
        mine = torch.arange(len(images))[rank::world_size]
        self._rows = list(mine.split(batch_size)) if len(mine) else []
        if not images.one_shape:
            self._rows = [run for rows in self._rows for run in _runs_of_one_shape(images, rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Batch]:
        for batch in _batches(self.images, self._rows, None, self.workers):
            if len(batch.image):
                yield _pinned(batch, self.pin)


class _Reader(Dataset):
    """A map-style set whose items are whole batches, so that a worker decodes a batch."""

    def __init__(self, images: ImageSet, epoch: int | None) -> None:
        self.images, self.epoch = images, epoch

    def __getitem__(self, rows: Tensor) -> Batch | UserError:
        try:
            return self.images.take(rows, self.epoch)
        except UserError as error:
            # raised in the main process: from a worker it would come with the worker's stack trace as its message
            return error


def _batches(images: ImageSet, rows: list[Tensor], epoch: int | None, workers: int) -> Iterator[Batch]:
    if workers == 0 or isinstance(images.store, MemoryStore):
        return (images.take(r, epoch) for r in rows)
    # An own generator: DataLoader draws the seed of its workers from the global one otherwise, which would change the
    # training noise.
    generator = torch.Generator().manual_seed(0)
    reader, how = _Reader(images, epoch), {"batch_size": None, "num_workers": workers, "generator": generator}
    return _raising(DataLoader(reader, sampler=rows, worker_init_fn=leave_stop_signals_to_parent, **how))


def _raising(batches: Iterable[Batch | UserError]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _filled(batch: Batch, size: int) -> Batch:
    """Broken files shorten a batch; training needs whole ones (a compiled network has a fixed shape), so its rows are
    repeated.
    """
    if len(batch.image) == size:
        return batch
    if len(batch.image) == 0:
        raise UserError(
            "not one image file of a batch can be decoded: check the data folder (the warnings above name the files)"
        )
    rows = torch.arange(size) % len(batch.image)
    return Batch(batch.image[rows], batch.index[rows], batch.label[rows])


def _pinned(batch: Batch, pin: bool) -> Batch:
    if not pin or batch.image.device.type != "cpu":
        return batch
    return Batch(*(t.pin_memory() for t in batch))


def _runs_of_one_shape(images: ImageSet, rows: Tensor) -> Iterator[Tensor]:
    shapes = [images.shape(int(row)) for row in rows]
    cuts = [0, *(i for i in range(1, len(rows)) if shapes[i] != shapes[i - 1]), len(rows)]
    return (rows[a:b] for a, b in itertools.pairwise(cuts))
