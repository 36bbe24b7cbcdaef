"""One picture file to uint8 pixels: any format and mode that Pillow reads, resized with a filter that does
not alias.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Mode = Literal["grey", "colour"]
CHANNELS = {"grey": 1, "colour": 3}
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
# registered, but stubs or no pixels of their own
_NOT_PICTURES = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})


@dataclass(frozen=True)
class Fit:
    """The geometry of a picture at rest: the shorter side is resized to `shorter` (None: kept), then the middle square
    `square` is cut out.

    Args:
        square: side of the crop in pixels, None: no crop. A picture that is smaller than the crop is enlarged until it
            covers it. Resizing is bicubic with support scaled by the reduction (Pillow's), which suppresses aliasing.
    """

    shorter: int | None = None
    square: int | None = None
    least: int = 1

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after the resizing and before the crop."""
        short = min(width, height)
        target = max(self.shorter or short, self.square or 1, self.least)
        if target == short:
            return width, height
        return max(target, round(width * target / short)), max(target, round(height * target / short))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at rest."""
        return (self.square, self.square) if self.square else self.resized(width, height)

    def __call__(self, picture: Image.Image) -> Image.Image:
        target = self.resized(*picture.size)
        if target != picture.size:
            picture = picture.resize(target, Image.Resampling.BICUBIC)
        if self.square:
            left, upper = (target[0] - self.square) // 2, (target[1] - self.square) // 2
            picture = picture.crop((left, upper, left + self.square, upper + self.square))
        return picture


def extensions() -> frozenset[str]:
    """Lower-case file endings (with the dot) of the formats that this Pillow opens."""
    return frozenset(e for e, f in Image.registered_extensions().items() if f in Image.OPEN and f not in _NOT_PICTURES)


def find_pictures(folder: Path) -> list[Path]:
    """Paths relative to `folder` of all pictures in it and below it, in natural order (2 before 10), without hidden
    ones.
    """
    endings, found, visited = tuple(extensions()), [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # a link may lead back upwards
        folders[:] = [] if real in visited else [f for f in folders if not f.startswith((".", "__MACOSX"))]
        if real not in visited:
            visited.add(real)
            here = Path(place).relative_to(folder)
            found += [here / name for name in names if name.lower().endswith(endings) and not name.startswith(".")]
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple:
    """Sort key: part by part, numbers by value and before letters, letters without case, the exact name last."""

    def pieces(part: str) -> tuple:
        return tuple((0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"([0-9]+)", part.lower()) if t)

    return tuple(pieces(part) for part in path.parts), path.as_posix()


def header(path: Path) -> tuple[int, int, str]:
    """(width, height, Pillow mode) as shown upright, read without decoding."""
    with Image.open(path) as picture:
        width, height = picture.size
        if picture.getexif().get(0x0112, 1) >= 5:  # EXIF orientations 5 to 8 lie on their side
            width, height = height, width
        return width, height, "LA" if picture.mode == "P" and _grey_palette(picture) else picture.mode


def decode(path: Path, mode: Mode, fit: Fit) -> Tensor:
    """Pixels uint8 [C, H, W] of a file: upright, on white where it is transparent, 16 bits reduced to 8, in grey or
    colour, fitted.

    Raises whatever Pillow raises where the file is broken.
    """
    with Image.open(path) as picture:
        picture = convert(ImageOps.exif_transpose(picture), mode)
    return to_tensor(fit(picture))


def to_tensor(picture: Image.Image) -> Tensor:
    """uint8 [C, H, W] of a picture in mode L or RGB."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def convert(picture: Image.Image, mode: Mode) -> Image.Image:
    """A picture of any mode in mode L or RGB: transparency on white, 16 bits as round(v / 257), colour to grey by ITU-R
    601 luma.
    """
    if picture.mode == "F":
        raise ValueError("32-bit floating-point pictures have no fixed range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("a grey picture with values outside of 0..65535")
        picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L" if mode == "grey" else "RGB")


def _grey_palette(picture: Image.Image) -> bool:
    palette = np.asarray(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())
