"""From any picture file to its levels, upright: which reader takes it, and what is refused, in one place for all."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common import netpbm, png16, tiff_files
from common.colour_tags import ColourTags, tags_of, tags_of_png
from common.picture_formats import (
    DAMAGE,
    DEEP_GREY,
    FIRST_IS_MEANT,
    FLOAT_RANGE,
    MODES,
    OTHER_COLOURS,
    PictureError,
    Stored,
    check_size,
    too_large,
)

ORIENTATION = 0x0112  # of EXIF
_START = 4096  # bytes that tell the format


def read_stored(path: Path, *, first: bool = False, other_colours: bool = False, with_tags: bool = True) -> Stored:
    """The levels of a file, upright.

    Args:
        path: of the file.
        first: of an animation or several pages the first picture is taken, rather than refused.
        other_colours: CMYK and the like are turned into RGB, rather than refused.
        with_tags: look for what says what the levels mean.

    Raises:
        PictureError: says in one predicate why it cannot be read.
        OSError: where the disk does not give it.
    """
    with damage_named(path):
        stored = _decoded(path, first, other_colours, with_tags)
    if stored.levels.dtype.kind == "f":
        _check_values(stored.levels)
    return stored


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Whatever readers raise inside becomes a PictureError, but what the disk says."""
    try:
        yield
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        raise too_large(count[1] if count else "too many") from error
    except MemoryError as error:
        raise PictureError("is too large for the memory that is free: give a part of it") from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        said = f" ({reason})" if reason and str(path) not in reason else ""
        raise PictureError(
            f"cannot be read as a picture, it is damaged or of an unknown format{said}: save it as PNG"
        ) from error


def _decoded(path: Path, first: bool, other_colours: bool, with_tags: bool) -> Stored:
    start, frame = start_of(path), 0
    if png16.is_png16(start):
        return _deep_png(path)
    if netpbm.shape_of(start) is not None:
        return netpbm.decode(path.read_bytes())
    page = None
    if start.startswith(tiff_files.STARTS):
        page, stored = tiff_files.read_tiff(path, first=first, other_colours=other_colours)
        if stored is not None:
            return stored
        first, frame = True, page.number
    stored = _with_pillow(path, frame, first, other_colours, with_tags)
    return replace(stored, alpha=None) if page is not None and page.colours and not page.has_alpha else stored


def start_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_START)


def _with_pillow(path: Path, frame: int, first: bool, other_colours: bool, with_tags: bool) -> Stored:
    """8 bits a channel, and grey of 16."""
    with Image.open(path) as opened:
        frames = getattr(opened, "n_frames", 1)
        if frames > 1 and not first and opened.format not in FIRST_IS_MEANT:
            raise PictureError(f"holds {frames} pictures (an animation or pages): save one of them as PNG")
        if frame:
            opened.seek(frame)
        tags = tags_of(opened, path) if with_tags else ColourTags()
        picture = ImageOps.exif_transpose(opened)
        picture.load()
    if picture.mode in DEEP_GREY:
        return Stored(np.array(picture).astype(np.uint16)[..., None], None, tags)
    if picture.mode.startswith(("I", "F")):
        raise PictureError(
            f"has more than 8 bits a pixel in a format other than PNG, TIFF, PGM, PPM, PFM and JPEG 2000 (Pillow mode"
            f" {picture.mode}): save it as PNG"
        )
    if picture.mode in OTHER_COLOURS and other_colours:
        picture = picture.convert("RGB")
    if picture.mode not in MODES:
        raise PictureError(f"is in the colour mode {picture.mode}: save it in grey or RGB")
    wanted = MODES[picture.mode]
    if picture.has_transparency_data:
        wanted = "LA" if wanted in ("L", "LA") else "RGBA"
    pixels = np.array(picture if picture.mode == wanted else picture.convert(wanted))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = 1 if wanted in ("L", "LA") else 3
    return Stored(pixels[..., :colours], pixels[..., colours] if pixels.shape[2] > colours else None, tags)


def _deep_png(path: Path) -> Stored:
    """16 bits a channel."""
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as opened:
        check_size(*opened.size)
        try:
            pixels = png16.decode(data)
        except ValueError as error:
            raise PictureError(f"cannot be read as a picture: {error}, save it again") from error
        turn = opened.getexif().get(ORIENTATION, 1)
    colours = 1 if pixels.shape[2] < 3 else 3
    alpha = pixels[..., colours] if pixels.shape[2] > colours else None
    return Stored(pixels[..., :colours], alpha, tags_of_png(data)).turned(turn)


def _check_values(levels: np.ndarray) -> None:
    finite = np.isfinite(levels)
    if not finite.all():
        count = int((~finite).any(-1).sum())
        raise PictureError(
            f"has {count} pixel{'s' * (count > 1)} of NaN or infinite value: replace them, and give them as missing by"
            " --mask FILE"
        )
    if levels.size and not FLOAT_RANGE[0] <= levels.min() <= levels.max() <= FLOAT_RANGE[1]:
        raise PictureError(
            f"has floating-point values from {levels.min():g} to {levels.max():g}: scale them so that 0 is black and 1"
            " is white"
        )
