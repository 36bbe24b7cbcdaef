"""Inpainting with a mask that the user painted."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.picture_files import read_picture
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask

MIDDLE = 127.5 / 255
BETWEEN = (1 / 8, 7 / 8)  # of the range: neither black nor white
MOST_BETWEEN = 0.35  # a soft brush leaves up to 0.3 in thin scratches; of 200 photographs 198 have more
NEAR, FEW = 1 / 16, 0.05  # but any two levels will do, if no more than FEW of the pixels are not NEAR them


class GivenMask(Degradation):
    """y = M * x with M from a picture: white = known, black or transparent = missing, the same for every image; missing
    pixels read 0, which is mid-grey.

    Args:
        path: a picture of any format that is read here (docs/pictures.md), of the size of the images; what its pixels
            mean and what is refused: :func:`read_mask`.

    Raises:
        UserError: as :func:`read_mask`; when bound, where the mask has another size than the images.
    """

    def __init__(self, *, path: str) -> None:
        self.path = str(path)
        self._known = read_mask(path)

    @property
    def missing(self) -> float:
        """The share of the pixels that are missing, in (0, 1)."""
        return 1 - float(self._known.double().mean())

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        check_size(self._known, self.path, shape)
        return Mask(self._known, channels=shape[0], description=f"mask of '{Path(self.path).name}'")


def read_mask(path: str | Path, *, may_keep_all: bool = False) -> Tensor:
    """float32 [H, W] of a mask's file, 1 known and 0 missing, upright.

    It is made grey and split in the middle (known from 128 of 255), because JPEG and smooth brushes leave grey borders;
    holes made by an eraser (alpha under one half) are missing.

    Args:
        path: of the file.
        may_keep_all: take a mask that leaves nothing out: in a folder of masks some pictures may be whole.

    Raises:
        UserError: where the file is missing, is no picture, leaves nothing out or everything (a mask saved with values
            0 and 1 rather than 0 and 255), or is not nearly two-valued (a photograph).
    """
    if not Path(path).is_file():
        raise UserError(
            f"the mask path='{path}' is not a file: give a picture with white for known and black for missing pixels"
        )
    try:
        picture = read_picture(path)
    except UserError as error:
        raise UserError(f"the mask: {error}") from error
    luma = torch.tensor([0.299, 0.587, 0.114] if len(picture.image) == 3 else [1.0], dtype=torch.float64)
    levels = ((picture.image.double() + 1) / 2 * luma.view(-1, 1, 1)).sum(0)
    opaque = torch.ones_like(levels) if picture.alpha is None else picture.alpha[0].double()
    bright, there = levels >= MIDDLE, opaque >= MIDDLE
    known, where = bright & there, f"the mask path='{path}'"
    paint = "paint known pixels white (255) and missing ones black (0)"
    if not bool(known.any()):
        brightest = f" (its brightest is {float(levels[there].max()) * 255:.0f} of 255)" if bool(there.any()) else ""
        raise UserError(
            f"{where} leaves everything out, 100 % of its pixels are missing: it has no white pixel{brightest}, so"
            f" nothing is known: {paint}"
        )
    between = _share_between(levels[there].numpy(), bright[there].numpy())
    if between > MOST_BETWEEN:
        raise UserError(
            f"{where} is not nearly two-valued, {100 * between:.0f} % of its pixels lie between black and white, as in"
            f" a photograph: {paint}"
        )
    if bool(known.all()) and not may_keep_all:
        raise UserError(f"{where} leaves nothing out, 0 % of its pixels are missing (black, or transparent): {paint}")
    return known.float()


def masks_in(degradation: Degradation) -> list[GivenMask]:
    """The masks in a degradation: itself, or parts of a composition."""
    if isinstance(degradation, GivenMask):
        return [degradation]
    return [mask for part in getattr(degradation, "parts", ()) for mask in masks_in(part)]


def check_size(known: Tensor, path: str | Path, shape: Shape) -> None:
    """UserError where a mask [H, W] does not have the size of the images, (C, H, W)."""
    height, width = known.shape
    if (height, width) != tuple(shape[1:]):
        raise UserError(
            f"the mask '{path}' has size {width}x{height} (width x height), the images have {shape[2]}x{shape[1]}:"
            " resize the mask, without smoothing, or the images"
        )


def _share_between(levels: np.ndarray, bright: np.ndarray) -> float:
    """The share of levels [N] that are neither black nor white, 0 where nearly all are one of two."""
    sides = [side for side in (levels[bright], levels[~bright]) if len(side)]
    away = sum(int((np.abs(side - np.median(side)) > NEAR).sum()) for side in sides) / len(levels)
    return 0.0 if away <= FEW else float(((levels > BETWEEN[0]) & (levels < BETWEEN[1])).mean())
