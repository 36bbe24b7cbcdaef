"""A person's own picture as a file: 8 or 16 bits, grey or colour, with or without an alpha channel, read and written
back in kind.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common import png16
from common.errors import UserError, disk_message
from common.files import write_atomically
from common.image_range import to_float

LEAST_SIDE = 2
FLOAT_RANGE = (-1.0, 2.0)  # of a floating-point picture: black is 0, white is 1, and noise goes beyond
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Picture:
    """image: float32 [C, H, W] in [-1, 1], C = 1 or 3. alpha: float32 [1, H, W] in [0, 1], None where the file has no
    such channel. bits: 8 or 16, per channel.

    A floating-point file (TIFF) counts as 16 bits; its noise may lie beyond [-1, 1].
    """

    image: Tensor
    alpha: Tensor | None = None
    bits: int = 8

    @property
    def visible(self) -> Tensor | None:
        """bool [1, H, W], False where the picture is fully transparent, so that the colour there means nothing; None
        where it is nowhere so.
        """
        shown = None if self.alpha is None else self.alpha > 0
        return None if shown is None or bool(shown.all()) else shown


def read_picture(path: str | Path) -> Picture:
    """A grey or colour picture of 8 bits (whatever Pillow reads), 16 bits (PNG, TIFF) or floating point (TIFF, 0 black
    and 1 white).

    A palette becomes colours, black and white becomes grey, a camera's turn (EXIF) is done. UserError where the file is
    missing, empty, a folder, no picture, an animation, in another colour space (CMYK, Lab), of one pixel's height or
    width, or has values that are not finite.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: give the path of one picture")
    if not path.exists():
        raise UserError(f"there is no picture at '{path}': give the path of a PNG file")
    if path.stat().st_size == 0:
        raise UserError(f"the picture '{path}' is empty (0 bytes): save it again")
    try:
        with open(path, "rb") as file:
            start = file.read(32)
        deep = _deep_png(path) if png16.is_png16(start) else _deep_tiff(path) if start.startswith(_TIFF) else None
        picture = deep if deep is not None else _with_pillow(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        message = disk_message(error) if isinstance(error, OSError) else None
        reason = f" ({error})" if isinstance(error, tifffile.TiffFileError) else ""
        raise UserError(
            message
            or f"'{path}' cannot be read as a picture, it is damaged or of an unknown format{reason}: save it as PNG"
        ) from error
    if min(picture.image.shape[1:]) < LEAST_SIDE:
        raise UserError(
            f"'{path}' has {picture.image.shape[2]}x{picture.image.shape[1]} pixels (width x height): a picture needs"
            " at least 2x2"
        )
    if not torch.isfinite(picture.image).all():
        count = int((~torch.isfinite(picture.image)).any(0).sum())
        raise UserError(
            f"'{path}' has {count} pixel{'s' * (count > 1)} of NaN or infinite value: replace them, and give them as"
            " missing by --mask FILE"
        )
    return picture


def read_opaque(path: str | Path) -> Tensor:
    """float32 [C, H, W] in [-1, 1] of a picture in which nothing is transparent; UserError as :func:`read_picture`, and
    where something is.
    """
    picture = read_picture(path)
    if picture.alpha is not None and bool((picture.alpha < 1).any()):
        raise UserError(f"'{path}' has transparent pixels: save it without an alpha channel")
    return picture.image


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG of picture.bits, atomically; values are clipped to [-1, 1] and rounded, alpha is written where there
    is one.
    """
    planes = [picture.image.float().clamp(-1, 1).add(1).div(2)]
    planes += [] if picture.alpha is None else [picture.alpha.float().clamp(0, 1)]
    levels = (torch.cat(planes).cpu().double() * (2**picture.bits - 1)).round().permute(1, 2, 0).contiguous().numpy()
    if picture.bits == 16:
        write_atomically(path, png16.encode(levels.astype(np.uint16)))
        return
    buffer = io.BytesIO()
    array = levels.astype(np.uint8)
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, format="PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def _with_pillow(path: Path) -> Picture:
    """8 bits a channel."""
    with Image.open(path) as opened:
        frames = getattr(opened, "n_frames", 1)
        if frames > 1:
            raise UserError(f"'{path}' holds {frames} pictures (an animation or pages): save one of them as PNG")
        picture = ImageOps.exif_transpose(opened)
        picture.load()
    if picture.mode.startswith(("I", "F")):
        raise UserError(
            f"'{path}' has more than 8 bits a pixel in a format other than PNG and TIFF (Pillow mode {picture.mode}):"
            " save it as PNG"
        )
    if picture.has_transparency_data:
        picture = picture.convert("LA" if picture.mode in ("L", "LA", "La") else "RGBA")
    if picture.mode in ("1", "P"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        raise UserError(f"'{path}' is in the colour mode {picture.mode}: save it in grey or RGB")
    pixels = np.array(picture)
    pixels = torch.from_numpy(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    colours = {1: 1, 2: 1, 3: 3, 4: 3}[len(pixels)]
    return Picture(to_float(pixels[:colours]), pixels[colours:].float() / 255 if len(pixels) > colours else None, 8)


def _deep_png(path: Path) -> Picture:
    """16 bits a channel. UserError with the decoder's reason."""
    try:
        pixels = png16.decode(path.read_bytes())
    except ValueError as error:
        reason = str(error)
        raise UserError(
            f"'{path}' cannot be read as a picture: {reason}{'' if ':' in reason else ', save it again'}"
        ) from error
    with Image.open(path) as opened:
        turn = opened.getexif().get(0x0112, 1)
    return _turned(_deep(pixels.transpose(2, 0, 1).astype(np.float64) / 65535, path), turn)


def _deep_tiff(path: Path) -> Picture | None:
    """16 bits or floating point; None where it has 8 bits, which Pillow knows with all their colour spaces."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.bitspersample <= 8:
            return None
        if len(file.pages) > 1:
            raise UserError(f"'{path}' holds {len(file.pages)} pictures (pages): save one of them as PNG")
        if page.photometric not in (0, 1, 2) or page.dtype is None or page.dtype.kind not in "uf":
            kind = getattr(page.photometric, "name", page.photometric)
            raise UserError(
                f"'{path}' is a TIFF of kind {kind}, {page.dtype}: save it in grey or RGB with 8 or 16 bits"
            )
        if page.dtype.kind == "u" and page.dtype.itemsize != 2:
            raise UserError(f"'{path}' has {page.bitspersample} bits a channel: save it with 8 or 16 bits")
        if 1 in page.extrasamples:
            raise UserError(
                f"the colours of '{path}' are multiplied with its alpha channel: save it as PNG, which keeps them apart"
            )
        try:
            pixels = page.asarray()
        except ValueError as error:  # a compression that needs a library which is not here
            raise UserError(
                f"'{path}' cannot be read ({' '.join(str(error).split())}): save it without compression, or as PNG"
            ) from error
        axes, turn, white = page.axes, page.tags.valueof(274, 1), page.photometric == 0
    if axes not in ("YX", "YXS", "SYX"):
        raise UserError(f"'{path}' is a TIFF with the axes {axes}: save one grey or RGB picture")
    pixels = pixels[None] if axes == "YX" else pixels if axes == "SYX" else pixels.transpose(2, 0, 1)
    if pixels.dtype.kind == "u":
        pixels = pixels.astype(np.float64) / 65535
    else:
        seen = pixels[np.isfinite(pixels)]
        if seen.size and not FLOAT_RANGE[0] <= seen.min() <= seen.max() <= FLOAT_RANGE[1]:
            raise UserError(
                f"'{path}' has floating-point values from {seen.min():g} to {seen.max():g}: scale them so that 0 is"
                " black and 1 is white"
            )
    if white:
        pixels[:1] = 1 - pixels[:1]
    return _turned(_deep(pixels, path), int(turn))


def _deep(planes: np.ndarray, path: Path) -> Picture:
    """[C, H, W] with 0 black and 1 white, alpha last where there are two or four."""
    if len(planes) not in (1, 2, 3, 4):
        raise UserError(f"'{path}' has {len(planes)} channels: save it in grey or RGB")
    colours = 1 if len(planes) < 3 else 3
    image = torch.from_numpy(np.ascontiguousarray(planes[:colours], np.float64)).mul(2).sub(1).float()
    alpha = torch.from_numpy(np.ascontiguousarray(planes[colours:], np.float32)) if len(planes) > colours else None
    return Picture(image, alpha, 16)


def _turned(picture: Picture, orientation: int) -> Picture:
    """Upright, from the orientation 1..8 of EXIF and TIFF: 5 to 8 have rows and columns exchanged."""

    def turn(x: Tensor) -> Tensor:
        x = x.mT if orientation in (5, 6, 7, 8) else x
        x = x.flip(-1) if orientation in (2, 3, 6, 7) else x
        return (x.flip(-2) if orientation in (3, 4, 7, 8) else x).contiguous()

    return replace(picture, image=turn(picture.image), alpha=None if picture.alpha is None else turn(picture.alpha))
