"""JPEG: what comes out of a file that was written with a low quality."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import Degradation, Operator, Params, Shape
from degradations.jpeg_codec import (
    CHROMINANCE,
    LUMINANCE,
    TO_RGB,
    TO_YCC,
    averaging,
    coded,
    enlarged,
    enlarging,
    halved,
    rounded,
    table,
)
from degradations.steps import with_gradient_of

SUBSAMPLINGS = ("4:2:0", "4:4:4")


class JPEGOperator(Operator):
    """A(x): x rounded to 8 bits, written as a baseline JPEG file and read again, equal to libjpeg's to the last bit
    (degradations/jpeg_codec.py). Not linear.

    The derivative of A is 0 almost everywhere, since A rounds. The gradient that it gives is that of `smooth`, the same
    without any rounding: the blocks and their cosine transform drop out, and what is left is clip(x, -1, 1), with its
    colours averaged over 2x2 pixels and enlarged again where they are subsampled. So a residual pulls every coefficient
    towards the value that was stored, and no more once all are rounded to those.

    Args:
        quality: 1 to 100, as libjpeg counts.
        shape: (C, H, W), C = 1 or 3.
        subsampled: whether colour is stored at half of the resolution.
    """

    linear = False

    def __init__(self, quality: int, shape: Shape, *, subsampled: bool = True) -> None:
        self.input_shape = self.output_shape = image_shape(shape)
        self._luminance, self._chrominance = table(LUMINANCE, quality), table(CHROMINANCE, quality)
        self._subsampled = subsampled and shape[0] == 3
        self.description = f"JPEG of quality {quality}"
        if shape[0] == 3:
            self.description += ", colours " + ("4:2:0" if subsampled else "4:4:4")
        fancy = shape[2] > 4  # where libjpeg smooths
        self._rows, self._columns = (enlarging(side, smooth=fancy) for side in shape[1:])
        self._averages = [self._rows @ averaging(shape[1]), self._columns @ averaging(shape[2])]

    def __call__(self, x: Images) -> Measurements:
        smooth = self.smooth(x)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            pixels = rounded(127.5 * (x.double().clamp(-1, 1) + 1))
            found = self._coded_grey(pixels) if x.shape[1] == 1 else self._coded(pixels)
            found = (found / 127.5 - 1).to(x.dtype)
        return with_gradient_of(found, smooth)

    def smooth(self, x: Images) -> Measurements:
        x = x.clamp(-1, 1)
        if not self._subsampled:
            return x
        with torch.autocast(x.device.type, enabled=False):
            rows, columns = (matrix.to(x) for matrix in self._averages)
            luma, *colours = mixed(TO_YCC, x).unbind(1)
            return mixed(TO_RGB, torch.stack([luma, *(rows @ c @ columns.mT for c in colours)], 1)).clamp(-1, 1)

    def norm(self) -> float:
        """Of the derivative of `smooth`: averaging the colours of an image may lengthen it, by up to 1.181."""
        return 1.2 if self._subsampled else 1.0

    def _coded_grey(self, pixels: Tensor) -> Tensor:
        return coded(pixels[:, 0], self._luminance)[:, None]

    def _coded(self, pixels: Tensor) -> Tensor:
        luma, *colours = mixed(TO_YCC, pixels).unbind(1)
        colours = [(c + (128 + (2**15 - 1) / 2**16)).floor() for c in colours]  # ties down, these alone
        if self._subsampled:
            width = self._columns.shape[1]
            stored = [coded(halved(c), self._chrominance)[..., :width] for c in colours]
            colours = [enlarged(c, self._rows, self._columns) for c in stored]
        else:
            colours = [coded(c, self._chrominance) for c in colours]
        luma = coded(rounded(luma), self._luminance)
        beside_grey = mixed(TO_RGB[:, 1:], torch.stack(colours, 1) - 128)
        return (luma[:, None] + rounded(beside_grey)).clamp(0, 255)


def mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix [d, c] @ the channels of every pixel of x [B, c, H, W]."""
    return torch.einsum("dc,bchw->bdhw", matrix.to(x), x)


class JPEG(Degradation):
    """y = what a JPEG file of this quality shows of x: grey or colour images of any size.

    Args:
        quality: 1 to 100, as libjpeg, Pillow and most programs count; 5 or 10 for a hard task.
        subsampling: 4:2:0 stores colour at half of the resolution both ways, as nearly all programs do; 4:4:4 at the
            full one. No matter for grey images.

    Raises:
        UserError: options out of range, and, when bound, images that have neither one nor three channels.

    Source: a task of DDRM-JPEG (Kawar et al. 2022, 2209.11888) and RED-diff (Mardani et al. 2023, 2305.04391).
    """

    def __init__(self, *, quality: int = 10, subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0") -> None:
        if not 1 <= quality <= 100 or quality != int(quality):
            raise UserError(f"quality must be a whole number from 1 to 100, got {quality}")
        if subsampling not in SUBSAMPLINGS:
            raise UserError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, got '{subsampling}'")
        self.quality, self.subsampling = int(quality), subsampling

    def bind(self, params: Params, shape: Shape) -> JPEGOperator:
        del params
        if shape[0] not in (1, 3):
            raise UserError(f"JPEG holds grey or colour images, these have {shape[0]} channels")
        return JPEGOperator(self.quality, shape, subsampled=self.subsampling == "4:2:0")
