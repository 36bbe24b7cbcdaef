"""PNG of 16 bits: every filter undone, every damage said; Pillow, which reads the grey ones, agrees."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common import png16

SIZES = [(1, 1), (5, 7), (9, 2)]


def random(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels)).astype(np.uint16)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def by_hand(pixels: np.ndarray, kinds: list[int], extra: bytes = b"", interlaced: int = 0) -> bytes:
    """A PNG whose row y has the filter kinds[y], byte by byte as the specification says (section 9.2)."""
    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    size, data = 2 * channels, bytearray()
    for y in range(height):
        data.append(kinds[y])
        for k in range(rows.shape[1]):
            a = rows[y, k - size] if k >= size else 0
            b = rows[y - 1, k] if y else 0
            c = rows[y - 1, k - size] if y and k >= size else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            data.append((rows[y, k] - [0, a, b, (a + b) // 2, nearest][kinds[y]]) % 256)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    packed = zlib.compress(bytes(data))
    middle = len(packed) // 2  # data may be cut into chunks anywhere
    return (
        png16.SIGNATURE
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", packed[:middle])
        + chunk(b"IDAT", packed[middle:])
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_there_and_back(channels, size):
    pixels = random(*size, channels)
    data = png16.encode(pixels)
    assert png16.is_png16(data[:32]) and np.array_equal(png16.decode(data), pixels)


def test_pillow_reads_what_is_written():
    grey = random(6, 5, 1)
    with Image.open(io.BytesIO(png16.encode(grey))) as picture:
        assert np.array_equal(np.array(picture), grey[..., 0])
    colour = random(6, 5, 4)
    with Image.open(io.BytesIO(png16.encode(colour))) as picture:  # with the upper 8 bits
        assert picture.mode == "RGBA" and np.array_equal(np.array(picture), colour >> 8)


def test_reads_what_pillow_writes():
    grey = random(6, 5, 1)
    buffer = io.BytesIO()
    Image.fromarray(grey[..., 0]).save(buffer, format="PNG")
    assert np.array_equal(png16.decode(buffer.getvalue()), grey)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kinds", [[k] * 6 for k in range(5)] + [[4, 0, 3, 1, 2, 4]])
def test_every_filter(channels, kinds):
    pixels = random(6, 5, channels, seed=sum(kinds))
    pixels[2] = pixels[1] // 2  # some ties
    assert np.array_equal(png16.decode(by_hand(pixels, kinds)), pixels)


def test_a_transparent_colour_becomes_an_alpha_channel():
    pixels = random(3, 4, 3)
    found = png16.decode(by_hand(pixels, [1, 2, 4], chunk(b"tRNS", pixels[1, 2].astype(">u2").tobytes())))
    assert np.array_equal(found[..., :3], pixels)
    assert (found[..., 3] == 0).sum() == 1 and found[1, 2, 3] == 0 and set(found[..., 3].ravel().tolist()) == {0, 65535}


@pytest.mark.parametrize("damage", ["cut", "changed", "short", "passes", "filter", "header"])
def test_damage(damage):
    pixels = random(4, 4, 3)
    data = png16.encode(pixels)
    if damage == "cut":
        data = data[:-20]
    elif damage == "changed":
        data = data[:60] + bytes([data[60] ^ 1]) + data[61:]
    elif damage == "short":
        header = data[: 8 + 25]
        data = header + chunk(b"IDAT", zlib.compress(b"\0" * 50)) + chunk(b"IEND", b"")
    elif damage == "passes":  # said to be interlaced, with the rows of a picture that is not
        data = by_hand(pixels, [0] * 4, interlaced=1)
    elif damage == "filter":
        header = data[: 8 + 25]
        data = header + chunk(b"IDAT", zlib.compress(b"\5" + b"\0" * (4 * 25 - 1))) + chunk(b"IEND", b"")
    else:
        data = png16.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 3, 0, 0, 0)) + data[33:]
    with pytest.raises(ValueError, match=r"damaged|not as long"):
        png16.decode(data)


def test_other_arrays():
    with pytest.raises(TypeError):
        png16.encode(np.zeros((3, 3, 1), np.uint8))
    with pytest.raises(TypeError):
        png16.encode(np.zeros((3, 3), np.uint16))
