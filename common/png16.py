"""PNG with 16 bits a channel, read and written without loss: Pillow reads such colour pictures with 8 bits and writes
none.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # colour type of the header: channels, alpha last
_COLOUR_TYPE = {channels: kind for kind, channels in _CHANNELS.items()}
#: The seven passes of interlacing: first row and column, and the distance to the next ones.
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def is_png16(data: bytes) -> bool:
    """Whether these are the first bytes of a PNG with 16 bits a channel."""
    return len(data) > 25 and data.startswith(SIGNATURE) and data[24] == 16


def encode(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG of uint16 [H, W, C]: C = 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha. TypeError for
    other arrays.
    """
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in _COLOUR_TYPE:
        raise TypeError(f"pixels must be uint16 [H, W, 1..4], got {pixels.dtype} {list(pixels.shape)}")
    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2  # each row as its difference to the row above
    filtered[0, 1:], filtered[1:, 1:] = rows[0], rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0)
    return (
        SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
        + _chunk(b"IEND", b"")
    )


def with_chunks(data: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a PNG with more chunks (name, content) behind its header, where those about colour belong."""
    behind = len(SIGNATURE) + 25
    return data[:behind] + b"".join(_chunk(name, content) for name, content in chunks) + data[behind:]


def chunks_before_pixels(data: bytes) -> dict[bytes, bytes]:
    """Content by name of the chunks in front of the first IDAT; those that are cut off or damaged are left out."""
    found: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at + 12 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        content, check = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if check == struct.pack(">I", zlib.crc32(name + content)):
            found.setdefault(name, content)
        at += 12 + length
    return found


def decode(data: bytes) -> np.ndarray:
    """uint16 [H, W, C] of the bytes of a PNG with 16 bits a channel, the inverse of :func:`encode`; a transparent
    colour (tRNS) becomes an alpha channel.

    ValueError, with the reason, where it is damaged. Source: PNG specification, third edition, sections 5, 8, 9 and
    11.3.1.
    """
    chunks = _chunks(data)
    width, height, bits, kind, compression, filtering, interlaced = struct.unpack(
        ">IIBBBBB", chunks.get(b"IHDR", b"").ljust(13, b"\0")[:13]
    )
    if bits != 16 or kind not in _CHANNELS or compression or filtering or not width or not height:
        raise ValueError("its header is damaged")
    channels = _CHANNELS[kind]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(len(range(top, height, down)), len(range(left, width, across))) for top, left, down, across in passes]
    lengths = [rows * (1 + 2 * columns * channels) if columns else 0 for rows, columns in sizes]
    unpack = zlib.decompressobj()
    try:
        raw = unpack.decompress(chunks.get(b"IDAT", b""), sum(lengths) + 1)
    except zlib.error as error:
        raise ValueError("its data are damaged") from error
    if len(raw) != sum(lengths):
        raise ValueError("its data are not as long as its size asks for")
    pixels, at = np.zeros((height, width, channels), np.uint16), 0
    for (top, left, down, across), (rows, columns), length in zip(passes, sizes, lengths, strict=True):
        if length:
            filtered = np.frombuffer(raw[at : at + length], np.uint8).reshape(rows, -1)
            whole = _unfilter(filtered[:, 0], filtered[:, 1:].reshape(rows, columns, 2 * channels))
            pixels[top::down, left::across] = np.frombuffer(whole.tobytes(), ">u2").reshape(rows, columns, channels)
        at += length
    if b"tRNS" in chunks and kind in (0, 2):
        clear = np.frombuffer(chunks[b"tRNS"], ">u2")[:channels]
        alpha = np.where((pixels == clear).all(-1, keepdims=True), 0, 65535).astype(np.uint16)
        pixels = np.concatenate([pixels, alpha], -1)
    return pixels


def _unfilter(kinds: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Undo the row filters: uint8 [H], uint8 [H, W, bytes a pixel] to the same shape.

    A pixel needs its neighbours at the left, above, and above left, all on earlier diagonals x + y: whole diagonals at
    once. The pixels of diagonal d lie W - 1 apart in memory, and of the diagonals the last two are kept by row.
    """
    if kinds.max() > 4:
        raise ValueError("its data are damaged")
    height, width, size = filtered.shape
    stored, out = filtered.reshape(-1, size), np.empty((height * width, size), np.uint8)
    # row 0 is the border of zeros above; a row that was not reached yet is the border at the left
    last, before, now = (np.zeros((height + 1, size), np.int16) for _ in range(3))
    is_left, is_above, is_mean, is_paeth = (np.repeat(kinds[:, None] == k, size, 1) for k in (1, 2, 3, 4))
    for d in range(height + width - 1):
        top, end = max(0, d - width + 1), min(d, height - 1) + 1
        step = max(width - 1, 1)
        here = slice(d + top * (width - 1), d + (end - 1) * (width - 1) + 1, step)
        a, b, c = last[top + 1 : end + 1], last[top:end], before[top:end]
        p, q, r = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
        paeth = np.where((p <= q) & (p <= r), a, np.where(q <= r, b, c))
        guess = paeth * is_paeth[top:end]
        for chosen, value in ((is_left, a), (is_above, b), (is_mean, (a + b) >> 1)):
            np.copyto(guess, value, where=chosen[top:end])
        now[top + 1 : end + 1] = (stored[here] + guess) & 255
        out[here] = now[top + 1 : end + 1]
        last, before, now = now, last, before
    return out.reshape(height, width, size)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Content by name, IDAT joined; ValueError where a chunk is cut or its check sum is wrong."""
    found: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        content, check = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(name + content):
            raise ValueError("it is cut off or damaged")
        at += 12 + length
        if name == b"IDAT":
            parts.append(content)
        elif name == b"IEND":
            return {**found, b"IDAT": b"".join(parts)}
        else:
            found.setdefault(name, content)
    raise ValueError("it is cut off or damaged")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
