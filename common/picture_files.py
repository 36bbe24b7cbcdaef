"""The one reader of picture files, for every place that opens a picture, a mask or a study's image: 8 and 16 bits and
floating point, grey and colour, with or without alpha, upright; and the writer that gives them back in kind.

:mod:`common.picture_formats` says what each format means; docs/pictures.md shows what opens where.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common import netpbm, png16, tiff_files
from common.colour_tags import ColourTags
from common.errors import UserError, disk_message
from common.files import write_atomically
from common.image_range import to_float
from common.picture_decoding import ORIENTATION, damage_named, read_stored, start_of
from common.picture_formats import DEEP_GREY, MODES, PictureError, Stored

LEAST_SIDE = 2
Mode = Literal["grey", "colour"]


@dataclass(frozen=True)
class Picture:
    """image: float32 [C, H, W] in [-1, 1], C = 1 or 3. alpha: float32 [1, H, W] in [0, 1], None where the file has no
    such channel. bits: 8 or 16, per channel. tags: what the file says about the meaning of its levels.

    A floating-point file (TIFF, PFM) counts as 16 bits; its noise may lie beyond [-1, 1].
    """

    image: Tensor
    alpha: Tensor | None = None
    bits: int = 8
    tags: ColourTags = field(default_factory=ColourTags)

    @property
    def visible(self) -> Tensor | None:
        """bool [1, H, W], False where the picture is fully transparent, so that the colour there means nothing; None
        where it is nowhere so.
        """
        shown = None if self.alpha is None else self.alpha > 0
        return None if shown is None or bool(shown.all()) else shown


@dataclass(frozen=True)
class Header:
    """Size upright, in pixels, and the number of colour channels, 1 or 3, of a file that was not decoded."""

    width: int
    height: int
    colours: int


def read_picture(path: str | Path) -> Picture:
    """A grey or colour picture of 8 bits, 16 bits (PNG, TIFF, PGM, PPM, JPEG 2000) or floating point (TIFF, PFM;
    0 black and 1 white).

    A palette becomes colours, black and white becomes grey, a camera's turn (EXIF) is done. UserError where the file is
    missing, empty, a folder, no picture, an animation, too large, in another colour space (CMYK, Lab), of one pixel's
    height or width, or has values that are not finite.
    """
    path = Path(path)
    stored = _or_user_error(path)
    planes = stored.levels.transpose(2, 0, 1)
    if min(planes.shape[1:]) < LEAST_SIDE:
        raise UserError(
            f"'{path}' has {planes.shape[2]}x{planes.shape[1]} pixels (width x height): a picture needs at least 2x2"
        )
    if stored.levels.dtype == np.uint8:
        image = to_float(torch.from_numpy(np.ascontiguousarray(planes)))
        alpha = None if stored.alpha is None else torch.from_numpy(stored.alpha[None].copy()).float() / 255
        return Picture(image, alpha, 8, stored.tags)
    shares = np.ascontiguousarray(planes, np.float64) / stored.white
    alpha = None if stored.alpha is None else (stored.alpha[None] / stored.white).astype(np.float32).clip(0, 1)
    image = torch.from_numpy(shares).mul(2).sub(1).float()
    return Picture(image, None if alpha is None else torch.from_numpy(alpha), 16, stored.tags)


def read_opaque(path: str | Path) -> Tensor:
    """float32 [C, H, W] in [-1, 1] of a picture in which nothing is transparent; UserError as :func:`read_picture`, and
    where something is.
    """
    picture = read_picture(path)
    if picture.alpha is not None and bool((picture.alpha < 1).any()):
        raise UserError(f"'{path}' has transparent pixels: save it without an alpha channel")
    return picture.image


def read_8_bits(path: str | Path, mode: Mode, *, first: bool = False, other_colours: bool = False) -> Image.Image:
    """A picture as Pillow's, in mode L or RGB: transparency on white, more bits rounded to 8, colour to grey by ITU-R
    601 luma. PictureError, or what the disk says, where it cannot be read.

    Args:
        mode: grey or colour.
        first: of an animation or several pages the first picture is taken, rather than refused.
        other_colours: CMYK and the like are turned into RGB, rather than refused.
    """
    stored = read_stored(Path(path), first=first, other_colours=other_colours, with_tags=False)
    levels = _rounded(stored.levels)
    if stored.alpha is not None:
        levels = np.concatenate([levels, _rounded(stored.alpha)[..., None]], -1)
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    if stored.alpha is not None:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L" if mode == "grey" else "RGB")


def read_header(path: str | Path) -> Header:
    """Size and colours of a file as :func:`read_8_bits` with first and other_colours gives them, without decoding;
    PictureError as there.
    """
    path = Path(path)
    with damage_named(path):
        return _header(path, start_of(path))


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG of picture.bits, atomically; values are clipped to [-1, 1] and rounded, alpha is written where there
    is one, and so is what says what the levels mean.

    A grey picture with a profile of RGB is written with three equal channels: in a grey PNG the profile would be wrong.
    """
    image = picture.image
    if len(image) == 1 and picture.tags.channels == 3:
        image = image.expand(3, -1, -1)
    planes = [image.float().clamp(-1, 1).add(1).div(2)]
    planes += [] if picture.alpha is None else [picture.alpha.float().clamp(0, 1)]
    levels = (torch.cat(planes).cpu().double() * (2**picture.bits - 1)).round().permute(1, 2, 0).contiguous().numpy()
    if picture.bits == 16:
        data = png16.encode(levels.astype(np.uint16))
    else:
        buffer, array = io.BytesIO(), levels.astype(np.uint8)
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, format="PNG", optimize=True)
        data = buffer.getvalue()
    write_atomically(path, png16.with_chunks(data, picture.tags.for_png(len(image))))


def _or_user_error(path: Path) -> Stored:
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: give the path of one picture")
    if not path.exists():
        raise UserError(f"there is no picture at '{path}': give the path of a PNG file")
    if path.stat().st_size == 0:
        raise UserError(f"the picture '{path}' is empty (0 bytes): save it again")
    try:
        return read_stored(path)
    except PictureError as error:
        raise UserError(f"'{path}' {error.predicate}") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path}' cannot be read ({error.strerror})") from error


def _header(path: Path, start: bytes) -> Header:
    if start.startswith(tiff_files.STARTS):
        page, _ = tiff_files.read_tiff(path, first=True, other_colours=True, header=True)
        if page.colours is not None:
            return Header(page.width, page.height, page.colours)
        with Image.open(path) as opened:
            opened.seek(page.number)
            return Header(page.width, page.height, 1 if _is_grey(opened) else 3)
    deep = netpbm.shape_of(start)
    if deep is not None:
        return Header(*deep)
    with Image.open(path) as opened:
        width, height = opened.size
        if opened.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):  # they lie on their side
            width, height = height, width
        # Pillow has no mode for 16 bits of grey with alpha, and says RGBA: the header's colour type knows
        grey = start[25] in (0, 4) if png16.is_png16(start) else _is_grey(opened)
        return Header(width, height, 1 if grey else 3)


def _rounded(levels: np.ndarray) -> np.ndarray:
    """uint8 of the same shape: the nearest of 256 levels."""
    if levels.dtype == np.uint8:
        return levels
    if levels.dtype == np.uint16:
        return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return (levels.clip(0, 1) * 255).round().astype(np.uint8)


def _is_grey(opened: Image.Image) -> bool:
    if opened.mode == "P":
        palette = np.asarray(opened.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return opened.mode in DEEP_GREY or MODES.get(opened.mode) in ("L", "LA")
