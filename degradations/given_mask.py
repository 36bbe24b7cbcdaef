"""Inpainting with a mask that the user painted."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.errors import UserError
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask


class GivenMask(Degradation):
    """y = M * x with M from a picture: white = known, black = missing, the same for every image; missing pixels read 0,
    which is mid-grey.

    Args:
        path: a picture that Pillow reads, of the size of the images. It is made grey and split in the middle (known
            from 128 of 255), because JPEG and smooth brushes leave grey borders.

    Raises:
        UserError: where the file is missing, is no picture, has no known pixel (a mask saved with values 0 and 1 rather
            than 0 and 255, or an inverted one), or, when bound, has another size than the images.
    """

    def __init__(self, *, path: str) -> None:
        self.path = str(path)
        if not Path(path).is_file():
            raise UserError(
                f"the mask path='{path}' is not a file: give a picture with white for known and black for missing"
                " pixels"
            )
        try:
            with Image.open(path) as picture:
                deep = picture.mode.startswith("I;16")  # which Pillow would clip to 255 rather than scale
                pixels = np.array(picture) >> 8 if deep else np.array(picture.convert("L"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"the mask path='{path}' cannot be read as a picture ({error}): save it as PNG") from error
        if pixels.max() < 128:
            raise UserError(
                f"the mask path='{path}' has no white pixel (its brightest is {pixels.max()} of 255), so nothing is"
                " known: paint known pixels white (255) and missing ones black (0)"
            )
        self._known = torch.from_numpy(pixels >= 128).float()

    def bind(self, params: Params, shape: Shape) -> Mask:
        del params
        height, width = self._known.shape
        if (height, width) != tuple(shape[1:]):
            raise UserError(
                f"the mask '{self.path}' has size {width}x{height} (width x height), the images have"
                f" {shape[2]}x{shape[1]}: resize the mask, without smoothing, or the images"
            )
        return Mask(self._known, channels=shape[0], description=f"mask of '{Path(self.path).name}'")
