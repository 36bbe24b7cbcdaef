"""What picture files mean: the tables that every place which opens a picture, a mask or a study's image goes by."""

import lzma
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from common.colour_tags import ColourTags

LARGEST = 178_956_970  # pixels: what Pillow, too, refuses to decode, so that a small file cannot fill the memory
FLOAT_RANGE = (-1.0, 2.0)  # of a floating-point picture: black is 0, white is 1, and noise goes beyond

#: What readers of damaged files raise. Pillow's own readers stumble over whatever comes first.
DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(struct.error, zlib.error, lzma.LZMAError),
)

#: Formats, by Pillow's names, with several pictures in a file of which the first is meant: previews of a camera (MPO),
#: layers whose sum comes first (PSD). TIFF: its first page that is not a reduced one. In all others several pictures
#: are an animation or pages: a folder takes the first one, a single picture is refused.
FIRST_IS_MEANT = frozenset({"MPO", "PSD"})

#: Registered with Pillow, but stubs, or without pixels of their own.
NOT_PICTURES = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})

#: Pillow's mode: the mode that says the same in grey or RGB, with alpha where it has one.
MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
}
#: 16 bits of grey. Colour of 16 bits is not known to Pillow: PNG, TIFF and PPM are decoded here.
DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
#: Other colour spaces: a folder for training takes them as RGB, a picture to be restored would not come back in kind.
OTHER_COLOURS = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})


class PictureError(ValueError):
    """Why a file is no picture that can be read; `predicate` follows the file's name: "is too large ...: fix"."""

    def __init__(self, predicate: str) -> None:
        super().__init__(f"it {predicate}")
        self.predicate = predicate


@dataclass(frozen=True)
class Stored:
    """The levels of a file, upright, 0 black.

    Args:
        levels: uint8, uint16 or floating point [H, W, C]; white is 255, 65535 or 1; C = 1 (grey) or 3 (RGB).
        alpha: [H, W] of the same type, 0 where nothing is seen; None where the file has no such channel.
        tags: what the file says about the meaning of the levels.
    """

    levels: np.ndarray
    alpha: np.ndarray | None = None
    tags: ColourTags = field(default_factory=ColourTags)

    @property
    def white(self) -> float:
        """The level of white."""
        return 1.0 if self.levels.dtype.kind == "f" else float(np.iinfo(self.levels.dtype).max)

    def turned(self, orientation: int) -> "Stored":
        """Upright, from the orientation 1..8 of EXIF and TIFF: 5 to 8 have rows and columns exchanged."""

        def turn(x: np.ndarray) -> np.ndarray:
            x = x.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else x
            x = x[:, ::-1] if orientation in (2, 3, 6, 7) else x
            return np.ascontiguousarray(x[::-1] if orientation in (3, 4, 7, 8) else x)

        return Stored(turn(self.levels), None if self.alpha is None else turn(self.alpha), self.tags)


def too_large(pixels: str) -> PictureError:
    """The error of a picture of so many `pixels`."""
    return PictureError(f"is too large: it has {pixels} pixels, and at most {LARGEST} are read: give a part of it")


def check_size(width: int, height: int) -> None:
    """PictureError where a picture has more pixels than are read."""
    if width * height > LARGEST:
        raise too_large(f"{width}x{height}")


def extensions() -> frozenset[str]:
    """Lower-case file endings (with the dot) of the formats that are read here."""
    known = {e for e, f in Image.registered_extensions().items() if f in Image.OPEN and f not in NOT_PICTURES}
    return frozenset(known | {".mpo"})  # opened as JPEG, and so not registered by itself
