"""TIFF of 8 and 16 bits and floating point, grey and RGB: which page, which channels, what they mean.

Sources: TIFF 6.0 (Adobe, 1992), sections 8 (baseline fields), 14 (differencing predictor) and 18 (alpha); Adobe
Photoshop TIFF Technical Note 3 (2005), the floating-point predictor.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from PIL import Image

from common.colour_tags import ColourTags
from common.picture_formats import PictureError, Stored, check_size

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MIN_IS_WHITE, _RGB = 0, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha, by ExtraSamples; any other value is no alpha
_PILLOW_DECODES = (2, 3, 4, 6, 7, 50001)  # fax, JPEG and WebP: their pixels, not their bytes
_NO_COMPRESSION = 1


@dataclass(frozen=True)
class Page:
    """What a page says before it is decoded.

    Args:
        number: of the page among all, as Pillow counts.
        width, height: upright.
        colours: 1 grey, 3 RGB, None: another kind, for Pillow to say.
        has_alpha: whether ExtraSamples says so.
        by_pillow: the page is decoded by Pillow: 8 bits or less, in a kind that only it knows.
    """

    number: int
    width: int
    height: int
    colours: int | None
    has_alpha: bool
    by_pillow: bool


def read_tiff(path: Path, *, first: bool, other_colours: bool, header: bool = False) -> tuple[Page, Stored | None]:
    """The full picture of a file, and its levels, which are None with `header`, and where Pillow is to decode it.

    Reduced-resolution pages (NewSubfileType 1, SubfileType 2) and transparency masks are passed over. Of several full
    pages the first is taken with `first`. PictureError where there are several without it, and for kinds without a
    meaning: signed or 32-bit integers, floating point beyond [-1, 2], colours that are neither grey nor RGB.
    """
    with tifffile.TiffFile(path) as file:
        pages = _full_pages(file)
        if len(pages) > 1 and not first:
            raise PictureError(f"holds {len(pages)} pictures (pages): save one of them as PNG")
        page = pages[0]
        check_size(page.imagewidth, page.imagelength)
        described = _described(page, other_colours)
        if described.by_pillow or header:
            return described, None
        levels, turn = _levels(page, file), int(page.tags.valueof(274, 1))
        icc = page.tags.valueof(34675)
    tags = ColourTags(bytes(icc) if isinstance(icc, (bytes, tuple, list, np.ndarray)) else None)
    return described, _split(levels, page, tags).turned(turn)


def _full_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    def is_full(page: tifffile.TiffPage) -> bool:
        return not (page.subfiletype & 5 or page.tags.valueof(255) == 2)

    chain = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
    full = [page for page in chain if is_full(page)]
    # some cameras keep a preview in front, and the picture behind it, as a SubIFD
    if not full:
        behind = cast(list[tifffile.TiffPage], [sub for page in chain for sub in page.pages or ()])
        full = [page for page in behind if is_full(page)]
    return full or chain[:1]


def _described(page: tifffile.TiffPage, other_colours: bool) -> Page:
    turned = page.tags.valueof(274, 1) in (5, 6, 7, 8)
    size = (page.imagelength, page.imagewidth) if turned else (page.imagewidth, page.imagelength)
    colours = {0: 1, 1: 1, 2: 3}.get(int(page.photometric))
    has_alpha = any(kind in (_ASSOCIATED, _UNASSOCIATED) for kind in page.extrasamples)
    bits, kind = page.bitspersample, "" if page.dtype is None else page.dtype.kind
    shallow = isinstance(bits, tuple) or (bits <= 8 and kind in ("u", "b"))
    by_pillow = shallow and (colours is None or bits != 8 or page.compression in _PILLOW_DECODES)
    if not shallow and colours is None and other_colours:
        by_pillow = True
    if not by_pillow:
        _refuse_unknown(page, colours, kind)
    return Page(page.index, *size, colours, has_alpha, by_pillow)


def _refuse_unknown(page: tifffile.TiffPage, colours: int | None, kind: str) -> None:
    if colours is None or kind not in ("u", "f"):
        name = getattr(page.photometric, "name", page.photometric)
        raise PictureError(f"is a TIFF of kind {name}, {page.dtype}: save it in grey or RGB with 8 or 16 bits")
    if kind == "u" and page.bitspersample not in (8, 16):
        raise PictureError(f"has {page.bitspersample} bits a channel: save it with 8 or 16 bits")
    extra = page.samplesperpixel - colours
    if extra < 0 or (colours == 1 and extra > 1):
        raise PictureError(f"has {page.samplesperpixel} channels: save it in grey or RGB")
    if page.imagedepth > 1:
        raise PictureError(f"has a depth of {page.imagedepth}: save one grey or RGB picture")


def _levels(page: tifffile.TiffPage, file: tifffile.TiffFile) -> np.ndarray:
    """[H, W, samples] as stored."""
    try:
        planes = page.asarray(squeeze=False)  # [separate samples, depth, H, W, joined samples]
        return np.concatenate(planes[:, 0], -1)
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error) and "No module" not in str(error):
            raise
    except ImportError:
        pass
    return _through_libtiff(page, file)


def _through_libtiff(page: tifffile.TiffPage, file: tifffile.TiffFile) -> np.ndarray:
    """[H, W, samples] of LZW, Zstandard ... and of predictors: every strip or tile is given to Pillow as a grey picture
    of its bytes, which loses nothing at any depth.
    """
    joined = page.samplesperpixel if page.planarconfig == 1 else 1
    assert page.dtype is not None  # `_described` refused it
    dtype = np.dtype(f"{file.byteorder}{page.dtype.kind}{page.dtype.itemsize}")
    height, width = page.imagelength, page.imagewidth
    tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    down, across = -(-height // tall), -(-width // wide)
    out = np.zeros((page.samplesperpixel // joined, down * tall, across * wide, joined), dtype.newbyteorder("="))
    if len(page.dataoffsets) != len(out) * down * across:
        raise PictureError("is damaged, it does not have the strips or tiles of its size: save it again")
    for number, (offset, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        plane, place = divmod(number, down * across)
        top, left = place // across * tall, place % across * wide
        rows = tall if page.is_tiled else min(tall, height - top)
        file.filehandle.seek(offset)
        unpacked = _unpacked(page, file.filehandle.read(length), rows, wide * joined * dtype.itemsize)
        out[plane, top : top + rows, left : left + wide] = _unpredicted(page, unpacked, dtype, (rows, wide, joined))
    return np.concatenate(out[:, :height, :width], -1)


def _unpacked(page: tifffile.TiffPage, data: bytes, rows: int, row_bytes: int) -> np.ndarray:
    """uint8 [rows, row_bytes]: a TIFF with one strip, in which each byte is a pixel."""
    if page.compression == _NO_COMPRESSION:
        return np.frombuffer(data[: rows * row_bytes], np.uint8).reshape(rows, row_bytes)
    fields = {256: row_bytes, 257: rows, 258: 8, 259: int(page.compression), 262: 1, 277: 1, 278: rows}
    fields |= {266: int(page.tags.valueof(266, 1)), 273: 0, 279: len(data)}
    fields[273] = 8 + 2 + 12 * len(fields) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    small = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 0) + data
    try:
        with Image.open(io.BytesIO(small)) as opened:
            return np.array(opened)
    except (KeyError, SyntaxError) as error:  # Pillow names no such compression
        name = getattr(page.compression, "name", page.compression)
        raise PictureError(f"is compressed by {name}, which is not read here: save it with LZW, or as PNG") from error


def _unpredicted(
    page: tifffile.TiffPage, stored: np.ndarray, dtype: np.dtype, shape: tuple[int, int, int]
) -> np.ndarray:
    """[rows, width, samples] of dtype: the sums of the differences along a row that predictors 2 and 3 store."""
    rows, width, samples = shape
    if page.predictor == 3:
        sums = np.cumsum(stored.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        # the first bytes of all numbers of a row come first, the highest byte of each number in front
        by_number = sums.reshape(rows, dtype.itemsize, width * samples).swapaxes(1, 2)
        return np.ascontiguousarray(by_number).view(dtype.newbyteorder(">"))[..., 0].reshape(shape)
    levels = np.ascontiguousarray(stored).view(dtype).reshape(shape)
    if page.predictor == 2:
        whole = levels.view(f"{dtype.byteorder}u{dtype.itemsize}").astype(f"=u{dtype.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(dtype.newbyteorder("="))
    return levels


def _split(levels: np.ndarray, page: tifffile.TiffPage, tags: ColourTags) -> Stored:
    """Colours and alpha, black 0: MinIsWhite is turned round, colours that were multiplied with alpha are divided."""
    colours = 3 if page.photometric == _RGB else 1
    levels = levels.astype(levels.dtype.newbyteorder("="), copy=False)
    if levels.dtype.kind == "f":
        levels = levels.astype(np.float64)
    white = 1.0 if levels.dtype.kind == "f" else float(np.iinfo(levels.dtype).max)
    image, alpha = levels[..., :colours], None
    if page.photometric == _MIN_IS_WHITE:
        image = (white - image).astype(levels.dtype)
    for place, kind in enumerate(page.extrasamples):
        if kind in (_ASSOCIATED, _UNASSOCIATED) and alpha is None:
            alpha = levels[..., colours + place]
            if kind == _ASSOCIATED:
                image = _divided(image, alpha, white)
    return Stored(np.ascontiguousarray(image), alpha, tags)


def _divided(image: np.ndarray, alpha: np.ndarray, white: float) -> np.ndarray:
    divided = image / np.where(alpha > 0, alpha / white, 1)[..., None]
    return divided if image.dtype.kind == "f" else divided.round().clip(0, white).astype(image.dtype)
