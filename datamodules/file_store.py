"""Picture files as a store: their pixels in memory, or decoded when needed."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from common.shapes import Shape
from datamodules.store import ImageStore

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Picture files of one folder: paths relative to it, with the stable index int64 [N] and the label int64 [N] of
    each.
    """

    folder: Path
    relative: Sequence[Path]
    index: Tensor
    label: Tensor

    @staticmethod
    def of(folder: Path, relative: Sequence[Path]) -> "Files":
        """Files whose index is their position and that have no label."""
        return Files(folder, relative, torch.arange(len(relative)), torch.full((len(relative),), -1))

    def __len__(self) -> int:
        return len(self.relative)

    def select(self, rows: Sequence[int]) -> "Files":
        """Some of the files, with their index and label."""
        return Files(self.folder, [self.relative[r] for r in rows], self.index[list(rows)], self.label[list(rows)])

    def path(self, row: int) -> Path:
        return self.folder / self.relative[row]


class FileStore(ImageStore):
    """Pictures of one or of many sizes, in memory or decoded when they are read, with a random crop in training where
    asked.

    Args:
        shapes: (C, H, W) of each picture at rest, or one for all.
        decode: a file to uint8 [C, H, W].
        pixels: those in memory.
        square: side of the crop (None: no crop), at a place drawn from (crop_seed, index, epoch) in training, in the
            middle otherwise.
        strict: a file that turns out broken stops the run (UserError); otherwise it is named in a warning and left out.
    """

    def __init__(
        self,
        files: Files,
        *,
        shapes: Sequence[Shape] | Shape,
        decode: Callable[[Path], Tensor],
        pixels: Sequence[Tensor] | None = None,
        square: int | None = None,
        crop_seed: int = 0,
        strict: bool = False,
    ) -> None:
        self.files, self.index, self.label = files, files.index, files.label
        one = isinstance(shapes[0], int)
        self._one_shape = cast(Shape, shapes) if one else None
        self._shapes = [] if one else cast(Sequence[Shape], shapes)
        self._decode, self._pixels, self._strict = decode, pixels, strict
        self._square, self._random = square, RandomStreams(crop_seed)
        self._broken: set[int] = set()

    def shape(self, position: int) -> Shape:
        c, h, w = self._shapes[position] if self._one_shape is None else self._one_shape
        return (c, self._square, self._square) if self._square else (c, h, w)

    def name(self, position: int) -> str:
        return self.files.relative[position].as_posix()

    def one_shape(self, positions: Tensor) -> bool:
        if self._square or self._one_shape is not None:
            return True
        return len({self._shapes[p] for p in positions.tolist()}) <= 1

    def read(self, positions: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        images, kept = [], []
        for position in positions.tolist():
            image = self._pixels[position] if self._pixels is not None else self._decoded(position)
            if image is not None:
                images.append(self._cropped(image, int(self.index[position]), epoch))
                kept.append(position)
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            text = " and ".join(f"{h}x{w}" for _, h, w in sizes[:2])
            raise UserError(
                f"the images of a batch must have one size, got {text} pixels: set batch_size to 1, or give size "
                f"and crop"
            )
        if not images:
            return torch.empty(0, *self.shape(int(positions[0])), dtype=torch.uint8), positions[:0]
        return torch.stack(images), torch.tensor(kept)

    def _decoded(self, position: int) -> Tensor | None:
        path = self.files.path(position)
        image, reason = attempt(self._decode, path)
        if reason is None:
            return image
        if self._strict:
            raise UserError(unreadable(path, reason))
        if position not in self._broken:
            self._broken.add(position)
            warnings.warn(
                f"'{path}' cannot be read ({reason}) and is left out; {len(self._broken)} so far", stacklevel=4
            )
        return None

    def _cropped(self, image: Tensor, index: int, epoch: int | None) -> Tensor:
        if self._square is None:
            return image
        room = (image.shape[1] - self._square + 1, image.shape[2] - self._square + 1)
        if epoch is None:
            top, left = (room[0] - 1) // 2, (room[1] - 1) // 2
        else:
            top, left = self._random.generator("crop", index, epoch).integers(0, room).tolist()
        return image[:, top : top + self._square, left : left + self._square]


def attempt(function: Callable[[Path], T], path: Path) -> tuple[T | None, str | None]:
    """(result, None), or (None, the reason) where the file is broken."""
    try:
        return function(path), None
    # Pillow's readers raise whatever they stumble over: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as error:
        return None, " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


def unreadable(path: Path, reason: str) -> str:
    """The message of `strict`."""
    return f"'{path}' cannot be read ({reason}): remove it, or set strict to false to leave it out"
