"""What all data sets have in common: splits, loaders, memory, augmentation. A leaf says only where its images come
from.
"""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import torch

from common.batch import Batch
from common.build import named_parameters
from common.errors import UserError
from common.image_range import to_float
from datamodules.augment import flip_at_random
from datamodules.loader import EvaluationLoader, ResumableLoader
from datamodules.long_tail import long_tailed_rows
from datamodules.reweighting import Reweighting
from datamodules.run_data import RunData
from datamodules.split import held_out_rows
from datamodules.store import ImageSet, ImageStore, MemoryStore, everything

Split = Literal["train", "validation", "test"]
EMPTY = "the training set is empty: all images are held out for validation or testing"


class ImageDataModule(RunData):
    """Images of one data set as batches ``Batch(image, index, label)``: uint8 at rest, float32 in [-1, 1] on the
    device.

    Every process must use the same options. The trainer runs with ``use_distributed_sampler: false``. Options out of
    range: UserError.

    Args:
        batch_size: images per training batch over all processes, each of which takes an equal share: the same images,
            times and noise on any number of devices (``trainer.accumulate_grad_batches`` batches make a step).
            Evaluation and drawing take batches of at most so many images per process.
        data_dir: folder of the data sets; None: the environment variable DATA_DIR, or ``data``.
        validation: number of images held out of the training set, by a permutation that depends on `split_seed` alone.
        split_seed: of the permutation that takes the validation images out of the training images; apart from `seed`,
            so that another order of training keeps the partition.
        seed: of the order and the augmentation of training images.
        horizontal_flip: mirror every training image with probability 1/2, decided by (seed, epoch, image index).
        limit: use only the first so many training images (those left after the validation images are taken out); None:
            all.
        long_tail: of the training images keep, class by class, exponentially fewer: the first class so many times as
            many as the last, at least 1 (datamodules/long_tail.py; `split_seed` says which); None: all.
        reweighting: draw training images with weights of their groups, see datamodules/reweighting.py; None: each once.
        workers: processes that decode files; sets in memory use none.
        memory_limit_mb: sets whose uint8 pixels fit are held in memory, larger ones are decoded when needed.
        keep_on_device: hold the pixels of a set in memory on the accelerator; "auto": where they fit in a quarter of
            its free memory.
        predict_images: how many indices ``predict_dataloader`` gives.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        data_dir: str | None = None,
        validation: int = 0,
        split_seed: int = 0,
        seed: int = 0,
        horizontal_flip: bool = False,
        limit: int | None = None,
        workers: int = 0,
        memory_limit_mb: int = 2048,
        keep_on_device: bool | Literal["auto"] = "auto",
        predict_images: int = 64,
        long_tail: float | None = None,
        reweighting: Reweighting | None = None,
    ) -> None:
        super().__init__()
        least = {"batch_size": 1, "validation": 0, "limit": 1, "workers": 0, "memory_limit_mb": 0, "predict_images": 1}
        given = {"batch_size": batch_size, "validation": validation, "limit": limit, "workers": workers}
        given |= {"memory_limit_mb": memory_limit_mb, "predict_images": predict_images}
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise UserError(f"{name} must be at least {least[name]}, got {value}")
        if keep_on_device not in (True, False, "auto"):
            raise UserError(f"keep_on_device must be true, false or auto, got '{keep_on_device}'")
        self.batch_size, self.validation, self.split_seed, self.seed = batch_size, validation, split_seed, seed
        self.data_dir = Path(data_dir or os.environ.get("DATA_DIR") or "data")
        self.horizontal_flip, self.limit, self.workers, self.predict_images = (
            horizontal_flip,
            limit,
            workers,
            predict_images,
        )
        self.memory_limit_mb, self.keep_on_device = memory_limit_mb, keep_on_device
        self.long_tail, self.reweighting = long_tail, reweighting
        self._sets: dict[str, ImageSet] = {}
        self._on_device: dict[int, tuple[ImageStore, MemoryStore]] = {}
        self._training_loader: ResumableLoader | None = None

    # What a data set says.

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image, where possible before any file is read; UserError where the images differ in
        size.
        """

    @abstractmethod
    def _training_images(self) -> ImageSet:
        """All images that may be trained on, those of the validation among them, in a stable order; UserError where
        they are missing.
        """

    @abstractmethod
    def _test_images(self) -> ImageSet:
        """The images held out for the evaluation; UserError where they are missing."""

    # Plain access, without Lightning.

    def images(self, split: Split) -> ImageSet:
        """The images of a split, read at the first call: ``len``, ``get(rows)``, ``name(row)``, ``shape(row)``."""
        if split not in ("train", "validation", "test"):
            raise ValueError(f"split must be train, validation or test, got {split!r}")
        if split not in self._sets:
            if split == "test":
                self._sets["test"] = self._test_images()
            else:
                self._sets["train"], self._sets["validation"] = self._split(self._training_images())
        return self._sets[split]

    def _split(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """(train, validation): the validation rows are the first of a permutation by `split_seed`; both parts keep the
        stable order.
        """
        n = len(images)
        if self.validation >= max(n, 1):
            raise UserError(f"validation must be smaller than the training set ({n} images), got {self.validation}")
        held_out, rest = held_out_rows(n, self.validation, self.split_seed, "validation split")
        kept = images.positions[rest]
        if self.long_tail is not None:
            kept = kept[long_tailed_rows(images.store.label[kept], self.long_tail, self.split_seed)]
        train = ImageSet(images.store, kept[: self.limit])
        return train, ImageSet(images.store, images.positions[held_out])

    def _fit_batch(self, images: int) -> None:
        """A batch that is larger than the training set becomes all of it: every image once, where it would repeat some.

        UserError where that many images cannot be shared by the processes.
        """
        if images >= self.batch_size:
            return
        processes = self.trainer.world_size if self.trainer is not None else 1
        if images % processes:
            fits = images // processes * processes
            raise UserError(
                f"data.batch_size {self.batch_size} is larger than the training set of {images} images, which"
                f" {processes} processes cannot share:{f' set it to {fits}, or' if fits else ''} use another number of"
                " devices"
            )
        self.batch_size = images

    def batch_per_process(self, world_size: int) -> int:
        """Images of one training batch that each of `world_size` processes takes; UserError where they do not divide
        it.
        """
        if self.batch_size % world_size:
            below, above = self.batch_size // world_size * world_size, -(-self.batch_size // world_size) * world_size
            raise UserError(
                f"data.batch_size {self.batch_size} is shared by all processes and cannot be divided by "
                f"{world_size} of them: "
                f"set it to {f'{below} or {above}' if below else above}, or use another number of devices"
            )
        return self.batch_size // world_size

    def contents(self) -> str:
        self.prepare_data()
        self.setup("fit")
        counts = {split: len(self.images(split)) for split in ("train", "validation")}
        return (
            f"{type(self).__name__}, {counts['train']} training and {counts['validation']} validation images "
            f"of {list(self.shape)}"
        )

    def sharing(self, processes: int) -> str:
        share = self.batch_per_process(processes)
        if processes == 1:
            return f"{self.batch_size} images, shared by all processes: their number must divide it"
        return f"{self.batch_size} images, {share} on each of the {processes} processes that the config names"

    # Lightning's hooks.

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs. UserError, before a run folder is made, where nothing is left to train
        on, where images differ in size, where a batch is larger than the set and the set cannot be shared, or where
        their reweighting does not suit them.
        """
        if stage in ("fit", "validate", None):
            training = self.images("train")
            if stage == "fit":
                if not len(training):
                    raise UserError(EMPTY)
                if not training.one_shape and self.batch_size > 1:
                    _ = self.shape  # says how to make them equal
                self._fit_batch(len(training))
                if self.reweighting is not None:
                    self.reweighting.of(training)
        if stage in ("test", None):
            self.images("test")

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled batches of training images; the position is saved with every checkpoint."""
        images = self.images("train")
        if len(images) == 0:
            raise UserError(EMPTY)
        options = self._loader_options()
        self._fit_batch(len(images))
        options["batch_size"] = self.batch_per_process(options["world_size"])
        if options["batch_size"] > 1 and not images.one_shape:
            raise UserError(
                f"the training images differ in size: set batch_size to {options['world_size']} (got "
                f"{self.batch_size}), or give size and crop"
            )
        if self.reweighting is not None:
            options |= self.reweighting.of(images)
        loader = ResumableLoader(self._placed(images), seed=self.seed, **options)
        if self.trainer is not None:
            trainer = self.trainer
            progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            loader.in_flight = lambda: progress.ready != progress.processed
            limit = trainer.limit_train_batches
            loader.epoch_batches = limit if isinstance(limit, int) else max(1, int(len(loader) * limit))
        self._training_loader = loader
        return loader

    def val_dataloader(self) -> EvaluationLoader | list:
        """Validation images in their order, each once over all processes; an empty list where none are held out."""
        images = self.images("validation")
        return EvaluationLoader(self._placed(images), **self._loader_options()) if len(images) else []

    def test_dataloader(self) -> EvaluationLoader:
        """Test images in their order, each once over all processes."""
        return EvaluationLoader(self._placed(self.images("test")), **self._loader_options())

    def predict_dataloader(self) -> EvaluationLoader:
        """Indices 0..predict_images-1, each once over all processes, with black images: what is drawn needs only the
        index.
        """
        black = torch.zeros(1, dtype=torch.uint8).expand(self.predict_images, *self.shape)
        return EvaluationLoader(everything(MemoryStore(black)), **self._loader_options())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 to float32 in [-1, 1] and, in training, mirrored at random: on the device, after the transfer of a
        quarter of the bytes.
        """
        image = to_float(batch.image)
        if (
            self.horizontal_flip
            and self._training_loader is not None
            and self.trainer is not None
            and self.trainer.training
        ):
            image = flip_at_random(image, batch.index, seed=self.seed, epoch=self._training_loader.epoch)
        return batch._replace(image=image)

    def _loader_options(self) -> dict:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return {
            "batch_size": self.batch_size,
            "rank": rank,
            "world_size": world_size,
            "workers": self.workers,
            "pin": pin,
        }

    def _placed(self, images: ImageSet) -> ImageSet:
        """The same set with its pixels on the accelerator, where that is wanted and they fit."""
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        if not isinstance(images.store, MemoryStore) or device.type == "cpu":
            return images
        key = id(images.store)
        if key not in self._on_device:
            if not _keeps(self.keep_on_device, device, images.store.pixels.nbytes):
                return images
            # the host's store is kept too: it owns the id
            self._on_device[key] = (images.store, images.store.to(device))
        return ImageSet(self._on_device[key][1], images.positions.to(device))


def _keeps(wanted: bool | str, device: torch.device, size: int) -> bool:
    """Whether `size` bytes of pixels go to the accelerator; how much of its memory is free is known of CUDA devices
    alone.
    """
    if wanted == "auto":
        return device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 4
    return bool(wanted)


def data_name(data: ImageDataModule) -> str | None:
    """Of the published data set that it is, as its class; None for a folder of somebody's pictures."""
    return None if "folder" in named_parameters(type(data)) else type(data).__name__
