"""Masks of a file, one for each image by its index: what was drawn once, or found in the images themselves."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.files import write_atomically
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask


class StoredMasks(Degradation):
    """y = M * x with M from a file, by the index of the image in its data set; missing pixels read 0, which is
    mid-grey.

    The rows of an evaluation carry a hash of the file.

    Args:
        path: .npz as python -m studies.masks writes it: `index` int64 [N], `shape` (H, W), `known` uint8 [N, ceil(H W /
            8)], 1 for known pixels row by row, eight to a byte, the first one highest.

    Raises:
        UserError: no such file, or one with other contents; when drawn, an image of another size or without a mask.
    """

    def __init__(self, *, path: str) -> None:
        self.path = path
        index, self._known = read_masks(path)
        self._row = {number: row for row, number in enumerate(index.tolist())}

    @property
    def first(self) -> int:
        """The index of an image that has a mask."""
        return next(iter(self._row))

    def lacking(self, index: list[int]) -> list[int]:
        """Those of the images with these indices that have no mask."""
        return [number for number in index if number not in self._row]

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        del random
        height, width = self._known.shape[1:]
        if (height, width) != tuple(shape[1:]):
            raise UserError(
                f"the masks '{self.path}' have {height}x{width} pixels, the images {shape[1]}x{shape[2]}: make them"
                " for this data set, python -m studies.masks"
            )
        if index not in self._row:
            raise UserError(
                f"the masks '{self.path}' have none for the image with index {index}: make them for this split, python"
                " -m studies.masks"
            )
        return {"mask": self._known[self._row[index]][None].float()}

    def bind(self, params: Params, shape: Shape) -> Mask:
        return Mask(params["mask"], channels=shape[0], description=f"mask of '{Path(self.path).name}'")


def read_masks(path: str) -> tuple[Tensor, Tensor]:
    """Indices, int64 [N], and known pixels, bool [N, H, W]; UserError where the file is none of masks."""
    if not Path(path).is_file():
        raise UserError(f"there is no file of masks '{path}': make it with python -m studies.masks")
    try:
        with np.load(path) as file:
            index, packed = file["index"].astype(np.int64), file["known"]
            height, width = (int(side) for side in file["shape"])
        if packed.shape[1:] != (-(-height * width // 8),):  # of fewer the rest would read as missing
            raise ValueError
        known = np.unpackbits(packed, axis=1, count=height * width).astype(bool).reshape(-1, height, width)
        if not len(index) or len(index) != len(known) or len(set(index.tolist())) < len(index):
            raise ValueError
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"'{path}' is no file of masks: make it with python -m studies.masks") from error
    return torch.from_numpy(index), torch.from_numpy(known)


def write_masks(path: str | Path, index: Tensor, known: Tensor) -> None:
    """The file that :class:`StoredMasks` reads, of indices int64 [N] and masks [N, H, W], 1 or True for known."""
    content = io.BytesIO()
    packed = np.packbits(known.flatten(1).bool().numpy(), axis=1)
    np.savez_compressed(content, index=index.numpy(), shape=np.array(known.shape[1:]), known=packed)
    write_atomically(path, content.getvalue())
