"""Where pixels rest: uint8 images with their stable index and label, held in memory or decoded when needed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.batch import Batch
from common.errors import UserError


class ImageStore(ABC):
    """N images at positions 0..N-1. `index` int64 [N] names an image for ever; `label` int64 [N] is -1 where there is
    none.
    """

    index: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @abstractmethod
    def read(self, positions: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """Pixels uint8 [B, C, H, W] and the positions int64 [B] that they belong to, on the CPU or on the store's
        device.

        `epoch`: of training, for stores that crop at random; None: the fixed crop. Files that turn out broken are left
        out of both. Raises UserError where the images are not of one size.
        """

    @abstractmethod
    def shape(self, position: int) -> tuple[int, int, int]:
        """(C, H, W) of one image, without decoding it."""

    @abstractmethod
    def one_shape(self, positions: Tensor) -> bool:
        """Whether the images at these positions have the same shape."""

    @abstractmethod
    def name(self, position: int) -> str:
        """A short name for tables and files."""


class MemoryStore(ImageStore):
    """All pixels in one uint8 tensor [N, C, H, W]; `names` default to the index."""

    def __init__(
        self,
        pixels: Tensor,
        *,
        index: Tensor | None = None,
        label: Tensor | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise TypeError(f"pixels must be uint8 [N, C, H, W], got {pixels.dtype} {tuple(pixels.shape)}")
        self.pixels = pixels
        self.index = torch.arange(len(pixels)) if index is None else index
        self.label = torch.full((len(pixels),), -1) if label is None else label
        self._names = names

    def to(self, device: torch.device) -> "MemoryStore":
        """A copy whose pixels, indices and labels rest on `device`."""
        return MemoryStore(
            self.pixels.to(device), index=self.index.to(device), label=self.label.to(device), names=self._names
        )

    def read(self, positions: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        positions = positions.to(self.pixels.device)
        return self.pixels[positions], positions

    def shape(self, position: int) -> tuple[int, int, int]:
        _, c, h, w = self.pixels.shape
        return c, h, w

    def one_shape(self, positions: Tensor) -> bool:
        return True

    def name(self, position: int) -> str:
        return self._names[position] if self._names is not None else f"{int(self.index[position]):05d}"


@dataclass(frozen=True)
class ImageSet:
    """One split: rows 0..len-1, each a position in a store. ``get`` is the plain access of the evaluation and of
    notebooks.
    """

    store: ImageStore
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def get(self, indices: Sequence[int]) -> Batch:
        """The images of these rows as uint8 [B, C, H, W] in this order; ``Batch.index`` is the stable index in the
        underlying data set.

        Raises IndexError for a row that is not there, UserError where the images are not of one size or a file cannot
        be decoded.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise IndexError(f"rows must be in 0..{len(self) - 1}, got {indices}")
        batch = self.take(rows)
        if len(batch.image) != len(rows):
            names = ", ".join(f"'{self.name(row)}'" for row in rows.tolist())
            raise UserError(f"a file among {names} cannot be decoded: remove it from the data folder")
        return batch

    def take(self, rows: Tensor, epoch: int | None = None) -> Batch:
        """Like :meth:`get` for a tensor of valid rows, with the training crop of `epoch`; files that turn out broken
        are left out.
        """
        # Not waited for: the rows of a set that rests on an accelerator are a few bytes, and the host goes on.
        pixels, kept = self.store.read(self.positions[rows.to(self.positions.device, non_blocking=True)], epoch)
        return Batch(pixels, self.store.index[kept], self.store.label[kept])

    def name(self, row: int) -> str:
        """A short name of the image in this row."""
        return self.store.name(int(self.positions[row]))

    def shape(self, row: int) -> tuple[int, int, int]:
        """(C, H, W) of the image in this row."""
        return self.store.shape(int(self.positions[row]))

    @property
    def one_shape(self) -> bool:
        """Whether all images have the same shape."""
        return self.store.one_shape(self.positions)


def everything(store: ImageStore) -> ImageSet:
    """The set of all images of a store."""
    return ImageSet(store, torch.arange(len(store)))
