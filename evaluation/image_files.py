"""The restored images on the disk: 8-bit PNG, lossless, whole or absent."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.files import write_atomically


def restored_path(folder: Path, task: str, method: str, image: str, sample: int) -> Path:
    """restored/<task>/<method>/<image>_<sample>.png"""
    return folder / "restored" / task / method / f"{image}_{sample}.png"


def write_png(path: Path, pixels: Tensor) -> None:
    """Write uint8 [C, H, W] with one or three channels, atomically."""
    write_atomically(path, encode_png(pixels))


def encode_png(pixels: Tensor) -> bytes:
    """The bytes of a PNG of uint8 [C, H, W]; UserError for other than one or three channels."""
    if pixels.shape[0] not in (1, 3):
        raise UserError(
            f"images with {pixels.shape[0]} channels cannot be saved as PNG: only grey (1) and colour (3) images can be"
            " evaluated"
        )
    array = pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array)).save(
        buffer, "PNG", compress_level=3
    )
    return buffer.getvalue()


def read_png(path: Path, shape: tuple[int, int, int] | None = None) -> Tensor:
    """uint8 [C, H, W]; UserError where it is missing or damaged, or of another shape than its truth."""
    try:
        with Image.open(path) as image:
            array = np.array(image)
    except FileNotFoundError as error:
        raise UserError(
            f"the restored image '{path}' is missing: remove its row from rows.csv, and it will be restored again"
        ) from error
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"the restored image '{path}' is damaged: remove it and its row from rows.csv, and it will be restored"
            " again"
        ) from error
    found = array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy()
    if found.dtype != np.uint8 or (shape is not None and found.shape != tuple(shape)):
        wanted = "" if shape is None else f", its truth {'x'.join(map(str, shape))} of 8 bits"
        raise UserError(
            f"the restored image '{path}' has {'x'.join(map(str, found.shape))} values of type"
            f" {found.dtype}{wanted}: remove it and its row from rows.csv, and it will be restored again"
        )
    return torch.from_numpy(found)
