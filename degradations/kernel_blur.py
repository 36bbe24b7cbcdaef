"""Blur by a kernel from a file: what a camera's shake or a lens did, as somebody measured it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.picture_files import read_picture
from degradations.base import Degradation, Operator, Params, Shape
from degradations.reflecting_convolution import check_boundary, convolution

MOST_PIXELS = 255  # of a side: more is a photograph, given by mistake
TEXT = (".txt", ".csv", ".dat")


class KernelBlur(Degradation):
    """y = k * x, k from a file, divided by its sum: a constant image stays as it is.

    Args:
        path: of the kernel, see :func:`read_kernel`.
        boundary: "reflecting" (pixels beyond the border mirror those inside, as in photographs) or "circular" (which
            has a closed-form solution, and is faster).
        threshold: singular values up to this are taken for zero by the pseudo-inverse, or damped.

    Raises:
        UserError: as :func:`read_kernel`; options out of range; when bound, a circular kernel larger than the image.
    """

    def __init__(self, *, path: str, boundary: str = "reflecting", threshold: float = 3e-2) -> None:
        check_boundary(boundary, threshold)
        self.path, self.boundary, self.threshold = str(path), boundary, threshold
        self._kernel = read_kernel(path)

    def bind(self, params: Params, shape: Shape) -> Operator:
        del params
        height, width = self._kernel.shape
        description = f"blur by the kernel '{Path(self.path).name}' of {width}x{height} pixels, its sum made 1"
        return convolution(
            self._kernel, shape, boundary=self.boundary, threshold=self.threshold, description=description
        )


def read_kernel(path: str | Path) -> Tensor:
    """float64 [k, l] of sum 1, the middle at (k // 2, l // 2): an array (.npy), numbers in rows (.txt, .csv), or a
    picture, white where the kernel is largest and black where it is 0 (colours are averaged).

    UserError where the file is missing, holds no table of finite numbers, is larger than 255 pixels a side, or its sum
    is not positive.
    """
    path, where = Path(path), f"the kernel path='{path}'"
    if not path.is_file():
        raise UserError(f"{where} is not a file: give a picture, an array (.npy) or rows of numbers (.txt)")
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).astype(np.float64)
        elif path.suffix in TEXT:
            text = path.read_text().replace(",", " ").replace(";", " ")
            values = np.loadtxt(text.splitlines(), dtype=np.float64, ndmin=2)
        else:
            values = (read_picture(path).image.double().mean(0).numpy() + 1) / 2
    except UserError as error:
        raise UserError(f"the kernel: {error}") from error
    except (ValueError, TypeError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is no table of numbers ({error}): save a plain array, or rows of numbers") from error
    if values.ndim != 2 or not values.size or max(values.shape) > MOST_PIXELS:
        raise UserError(
            f"{where} has shape {list(values.shape)}: a kernel has two dimensions of 1 to {MOST_PIXELS} pixels"
        )
    if not np.isfinite(values).all() or not values.sum() > 0:
        raise UserError(
            f"{where} has the sum {values.sum():g}: its numbers must be finite, and their sum positive (in a picture"
            " black is 0)"
        )
    return torch.from_numpy(values / values.sum())
