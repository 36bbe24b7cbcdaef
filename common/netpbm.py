"""PGM and PPM of more than 8 bits and PFM (floating point), without loss: Pillow reads such colours with 8 bits.

Source: the manual pages of pgm(5), ppm(5) and pfm(5) of the Netpbm project.
"""

import re

import numpy as np

from common.picture_formats import PictureError, Stored, check_size

#: Kind, width, height, and the largest level or (PFM) the scale; between them white space and comments.
_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"(P[2356Ff])" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"([-+.\deE]+)\s")


def shape_of(start: bytes) -> tuple[int, int, int] | None:
    """(width, height, channels) of the first bytes of a file, None where it is none of these or has 8 bits."""
    found = _HEADER.match(start)
    if found is None or (found[1] not in (b"PF", b"Pf") and not found[4].isdigit()):
        return None
    if found[1] not in (b"PF", b"Pf") and int(found[4]) <= 255:
        return None
    return int(found[2]), int(found[3]), 3 if found[1] in (b"P3", b"P6", b"PF") else 1


def decode(data: bytes) -> Stored:
    """Levels uint16, or float32 of a PFM, of a whole file that :func:`shape_of` knows; PictureError where it is cut."""
    found, shape = _HEADER.match(data), shape_of(data)
    assert found is not None and shape is not None
    width, height, channels = shape
    check_size(width, height)
    content, count = data[found.end() :], width * height * channels
    if found[1] in (b"PF", b"Pf"):
        levels = _numbers(content, "<f4" if float(found[4]) < 0 else ">f4", count)
        return Stored(levels.reshape(height, width, channels)[::-1].astype(np.float32))  # rows from below
    largest = int(found[4])
    if not 255 < largest <= 65535:
        raise PictureError(f"has levels up to {largest}, and a PGM or PPM ends at 65535: save it again")
    if found[1] in (b"P2", b"P3"):
        words = re.sub(rb"#[^\n]*", b"", content).split()[:count]
        levels = np.array([int(word) for word in words], np.int64)
        if len(levels) < count:
            raise PictureError("is cut off or damaged: save it again")
    else:
        levels = _numbers(content, ">u2", count).astype(np.int64)
    if levels.max() > largest or levels.min() < 0:
        raise PictureError("is damaged, it has levels above its largest one: save it again")
    levels = (levels * 65535 * 2 + largest) // (2 * largest)  # rounded
    return Stored(levels.astype(np.uint16).reshape(height, width, channels))


def _numbers(content: bytes, kind: str, count: int) -> np.ndarray:
    wanted = count * np.dtype(kind).itemsize
    if len(content) < wanted or count == 0:
        raise PictureError("is cut off or damaged: save it again")
    return np.frombuffer(content[:wanted], kind)
