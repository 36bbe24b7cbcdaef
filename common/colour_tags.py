"""What a file says about the meaning of its levels: an ICC profile, or the chunks of a PNG; and how it is written.

Levels are restored as they are stored, in no colour space in particular. Whoever looks at the result needs to know
which one it was. Source: PNG specification, third edition, sections 4.3 and 11.3.2.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common import png16

#: PNG's chunks beside iCCP, in the order in which they are written: a later one gives way to an earlier one.
CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_LARGEST_PROFILE = 2**24
_INTEROPERABILITY = 0xA005  # the part of EXIF in which cameras without a profile name Adobe RGB, as "R03"


@dataclass(frozen=True)
class ColourTags:
    """icc: the bytes of an ICC profile. chunks: name and content of PNG's chunks cICP, sRGB, gAMA and cHRM."""

    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def channels(self) -> int | None:
        """How many channels the profile is about, None where there is none, or one that is for neither grey nor RGB."""
        return None if self.icc is None else {b"GRAY": 1, b"RGB ": 3}.get(self.icc[16:20])

    def for_png(self, channels: int) -> list[tuple[bytes, bytes]]:
        """The chunks of a PNG with so many colour channels; a profile for another number of them is left out."""
        found = [(name, content) for name, content in self.chunks if channels == 3 or name not in (b"cICP", b"cHRM")]
        if self.icc is not None and self.channels == channels:
            found.insert(0, (b"iCCP", b"ICC profile\0\0" + zlib.compress(self.icc, 9)))
        return found


def tags_of_png(data: bytes) -> ColourTags:
    """Of the first bytes of a PNG, up to its pixels."""
    found = png16.chunks_before_pixels(data)
    icc = None
    if b"iCCP" in found:
        _, _, rest = found[b"iCCP"].partition(b"\0")
        try:
            icc = zlib.decompressobj().decompress(rest[1:], _LARGEST_PROFILE)
        except zlib.error:  # a damaged profile says nothing
            icc = None
    return ColourTags(icc, tuple((name, found[name]) for name in CHUNKS if name in found))


def tags_of(opened: Image.Image, path: Path) -> ColourTags:
    """Of a picture that Pillow has opened."""
    if opened.format == "PNG":
        return tags_of_png(path.read_bytes())
    icc = opened.info.get("icc_profile")
    if icc is None and opened.getexif().get_ifd(_INTEROPERABILITY).get(1) == "R03":
        return ColourTags(chunks=ADOBE_RGB)
    return ColourTags(icc or None)


# Adobe RGB (1998): gamma 2.19921875; white point, red, green, blue. PNG keeps them times 100,000.
ADOBE_RGB = (
    (b"gAMA", struct.pack(">I", 45470)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
)
