"""A file of every format and kind that a person may have, made from levels that are known: what it holds is the truth
that every entry is compared with.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from common import png16

HEIGHT, WIDTH = 5, 6  # not square, so that a picture that was not turned shows

Levels = np.ndarray  # uint16 [H, W, C], white is 65535


@dataclass(frozen=True)
class Example:
    """One file.

    Args:
        row: of the matrix in docs/pictures.md; several examples may share it.
        ending: of the file's name.
        write: writes the file from uint16 [H, W, C].
        channels: C, 1 or 3.
        bits: 8 or 16, or 1: what the levels are rounded to before they are written.
        near: how far a lossy format may be, in levels of 255.
        has_alpha: the pixel at the upper left is transparent, and black.
        deep: whether it comes back from restore.py with 16 bits.
    """

    row: str
    ending: str
    write: Callable[[Path, Levels], object]
    channels: int = 3
    bits: int = 8
    near: float = 0
    has_alpha: bool = False
    deep: bool = False

    def levels(self) -> Levels:
        """The levels of the picture in the file: smooth where the format is lossy."""
        if self.near:
            ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] * 4000 + 8000
            found = ramp + (np.arange(self.channels) * 9000 if self.channels == 3 else 0)
        else:
            found = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, self.channels))
        return self._kept(found.astype(np.uint16))

    def mask(self) -> Levels:
        """A mask: the same in all channels, a hole that no turn leaves where it is."""
        found = np.full((HEIGHT, WIDTH, self.channels), 65535, np.uint16)
        found[1:3, 0:2] = 0
        return self._kept(found)

    def _kept(self, levels: Levels) -> Levels:
        levels = levels.copy()
        if self.bits == 1:
            levels = (levels > 32767).astype(np.uint16) * 65535
        elif self.bits == 8:
            levels = levels // 257 * 257
        if self.has_alpha:
            levels[0, 0] = 0
        return levels


def eight(levels: Levels) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3]."""
    found = (levels // 257).astype(np.uint8)
    return found[..., 0] if found.shape[2] == 1 else found


def with_alpha(levels: Levels) -> Levels:
    """With an alpha channel that is 0 at the upper left and else full."""
    alpha = np.full((*levels.shape[:2], 1), 65535, np.uint16)
    alpha[0, 0] = 0
    return np.concatenate([levels, alpha], -1)


def lain(levels: np.ndarray, orientation: int) -> np.ndarray:
    """As a camera stores it that was held so: what EXIF's orientation turns upright again."""
    levels = levels[::-1] if orientation in (3, 4, 7, 8) else levels
    levels = levels[:, ::-1] if orientation in (2, 3, 6, 7) else levels
    return np.ascontiguousarray(levels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else levels)


def pillow(**options) -> Callable[[Path, Levels], object]:
    """Writes 8 bits."""
    return lambda path, levels: Image.fromarray(eight(levels)).save(path, **options)


def pillow_alpha(**options) -> Callable[[Path, Levels], object]:
    return lambda path, levels: Image.fromarray(eight(with_alpha(levels))).save(path, **options)


def turned(write: Callable[..., object], orientation: int) -> Callable[[Path, Levels], object]:
    """`write` takes the orientation, too."""
    return lambda path, levels: write(path, lain(levels, orientation), orientation)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def deep_png(path: Path, levels: Levels) -> None:
    path.write_bytes(png16.encode(levels))


def turned_png16(path: Path, levels: Levels, orientation: int) -> None:
    data = png16.with_chunks(png16.encode(levels), [(b"eXIf", exif_of(orientation).tobytes()[6:])])
    path.write_bytes(data)


def interlaced_png16(path: Path, levels: Levels) -> None:
    """Adam7, without row filters."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [row for t, left, d, a in passes for row in levels[t::d, left::a] if row.size]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    kind = {1: 0, 3: 2}[levels.shape[2]]
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, kind, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(png16.SIGNATURE + b"".join(chunk(*c) for c in chunks))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def palette(path: Path, levels: Levels, **options) -> None:
    """Every colour once in the palette, in the order of the pixels."""
    colours, index = np.unique(eight(levels).reshape(-1, 3), axis=0, return_inverse=True)
    picture = Image.fromarray(index.reshape(levels.shape[:2]).astype(np.uint8), "P")
    picture.putpalette(colours.ravel().tolist())
    clear = {"transparency": int(index.ravel()[0])} if options.pop("clear", False) else {}
    picture.save(path, **options, **clear)


def netpbm(kind: str, largest: int = 65535) -> Callable[[Path, Levels], object]:
    def write(path: Path, levels: Levels) -> None:
        header = f"{kind}\n# made by a test\n{levels.shape[1]} {levels.shape[0]}\n"
        if kind in ("Pf", "PF"):
            content = (levels[::-1] / 65535).astype("<f4").tobytes()
            path.write_bytes(f"{header}-1.0\n".encode() + content)
        elif kind in ("P2", "P3"):
            path.write_text(f"{header}{largest}\n" + " ".join(map(str, levels.ravel())))
        else:
            stored = levels.astype(">u2") if largest > 255 else eight(levels)
            path.write_bytes(f"{header}{largest}\n".encode() + stored.tobytes())

    return write


def tiff(*, dtype: str = "uint16", alpha: str | None = None, turn: int = 1, **options) -> Callable[..., object]:
    """By tifffile. alpha: unassalpha, assocalpha, or unspecified (which is none)."""

    def write(path: Path, levels: Levels, orientation: int = turn) -> None:
        given = {"photometric": "rgb" if levels.shape[2] == 3 else "minisblack", **options}
        white = 65535 if dtype == "uint16" else 255 if dtype == "uint8" else 1.0
        stored = with_alpha(levels) if alpha else levels
        if alpha == "unspecified":
            stored = stored[..., ::1].copy()
            stored[..., -1] = 0  # read as alpha, nothing would be seen
        stored = (stored / 65535 * white).round() if isinstance(white, int) else stored / 65535
        if given["photometric"] == "miniswhite":
            stored = white - stored
        stored = stored.astype(dtype)
        if given.get("planarconfig") == "separate":
            stored = stored.transpose(2, 0, 1)
        if stored.shape[-1] == 1:
            stored = stored[..., 0]
        extra = {"extrasamples": [alpha]} if alpha else {}
        tags = [(274, 3, 1, orientation, True)] if orientation > 1 else []
        tifffile.imwrite(path, stored, extratags=tags, metadata=None, **extra, **given)

    return write


def tiff_by_hand(
    path: Path, levels: np.ndarray, *, lzw: bool = False, predictor: int = 1, order: str = "<", rows: int = 2
) -> None:
    """Uncompressed or LZW, strips of some rows, no ExtraSamples; uint8 or uint16 [H, W, C]."""
    height, width, channels = levels.shape
    size = levels.dtype.itemsize
    stored = levels.astype(levels.dtype.newbyteorder(order))
    if predictor == 2:
        first = levels[:, :1]
        stored = np.concatenate([first, levels[:, 1:] - levels[:, :-1]], 1).astype(stored.dtype)
    strips = [stored[top : top + rows].tobytes() for top in range(0, height, rows)]
    strips = [packed_by_lzw(strip) for strip in strips] if lzw else strips
    count = len(strips)
    fields = {256: [width], 257: [height], 258: [8 * size] * channels, 259: [5 if lzw else 1]}
    fields |= {262: [2 if channels >= 3 else 1], 273: [0] * count, 277: [channels], 278: [rows]}
    fields |= {279: [len(strip) for strip in strips], 317: [predictor]}
    at = 8 + 2 + 12 * len(fields) + 4
    offsets = at + sum(4 * len(v) for v in fields.values() if len(v) > 1)
    fields[273] = [offsets + sum(map(len, strips[:k])) for k in range(count)]
    entries, more = b"", b""
    for tag, values in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        entries += struct.pack(f"{order}HHI", tag, 4, len(values))
        entries += packed if len(values) == 1 else struct.pack(f"{order}I", at + len(more))
        more += packed if len(values) > 1 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(fields))
    path.write_bytes(head + entries + struct.pack(f"{order}I", 0) + more + b"".join(strips))


def packed_by_lzw(data: bytes) -> bytes:
    """TIFF's LZW with a table that is cleared before its codes get longer than 9 bits."""
    codes = [256]
    for place, byte in enumerate(data):
        codes += [256] if place and place % 200 == 0 else []
        codes.append(byte)
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


def tiff_pages(*sizes: int, reduced: tuple[int, ...] = (), dtype: str = "uint16") -> Callable[[Path, Levels], object]:
    """Pages: 1 is the picture, 2 one of half its size; `reduced`: the numbers of those that say that they are."""

    def write(path: Path, levels: Levels) -> None:
        levels = levels if dtype == "uint16" else (levels // 257).astype(np.uint8)
        with tifffile.TiffWriter(path) as file:
            for number, size in enumerate(sizes):
                kind = "rgb" if levels.shape[2] == 3 else "minisblack"
                stored = levels[::size, ::size] if size == 1 else 3 * (levels[::size, ::size] // 4)
                stored = stored[..., 0] if stored.shape[2] == 1 else stored
                file.write(stored, photometric=kind, subfiletype=int(number in reduced), metadata=None)

    return write


def animation(path: Path, levels: Levels, **options) -> None:
    picture = Image.fromarray(eight(levels))
    picture.save(path, save_all=True, append_images=[Image.fromarray(255 - eight(levels))], **options)


def phone(path: Path, levels: Levels) -> None:
    """A JPEG with a preview behind the picture."""
    picture = Image.fromarray(eight(levels))
    preview = picture.resize((3, 2))
    picture.save(path, format="MPO", save_all=True, append_images=[preview], quality=100)


def no_extra_samples(dtype: type) -> Callable[[Path, Levels], object]:
    """Four samples, of which nothing says what the fourth one is."""

    def write(path: Path, levels: Levels) -> None:
        stored = np.concatenate([levels, np.zeros_like(levels[..., :1])], -1)
        tiff_by_hand(path, stored if dtype is np.uint16 else (stored // 257).astype(np.uint8))

    return write


def too_large() -> bytes:
    """A PNG that says that it has 30,000 x 30,000 pixels, and holds none."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return png16.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(path: Path, levels: Levels, orientation: int = 1, **options) -> None:
    Image.fromarray(eight(levels)).save(path, quality=100, subsampling=0, exif=exif_of(orientation), **options)


def other_colours(mode: str) -> Callable[[Path, Levels], object]:
    return lambda path, levels: Image.fromarray(eight(levels)).convert(mode).save(path)


def _every() -> list[Example]:
    grey16, rgb16 = {"channels": 1, "bits": 16, "deep": True}, {"bits": 16, "deep": True}
    lzw = {"lzw": True}
    found = [
        Example("PNG, 8 bits", ".png", pillow()),
        Example("PNG, 8 bits", ".png", pillow(), channels=1),
        Example("PNG, 1 bit", ".png", lambda p, x: Image.fromarray(eight(x) > 0).save(p), channels=1, bits=1),
        Example("PNG, palette", ".png", palette),
        Example("PNG, 8 bits with alpha", ".png", pillow_alpha(), has_alpha=True),
        Example("PNG, 8 bits with alpha", ".png", pillow_alpha(), channels=1, has_alpha=True),
        Example("PNG, palette with alpha", ".png", lambda p, x: palette(p, x, clear=True), has_alpha=True),
        Example("PNG, 16 bits", ".png", deep_png, **rgb16),
        Example("PNG, 16 bits", ".png", deep_png, **grey16),
        Example("PNG, 16 bits with alpha", ".png", lambda p, x: deep_png(p, with_alpha(x)), has_alpha=True, **rgb16),
        Example("PNG, 16 bits with alpha", ".png", lambda p, x: deep_png(p, with_alpha(x)), has_alpha=True, **grey16),
        Example("PNG, 16 bits, interlaced", ".png", interlaced_png16, **rgb16),
        Example("PNG, 16 bits, interlaced", ".png", interlaced_png16, **grey16),
        Example("PNG, animation", ".png", animation),
        Example("JPEG", ".jpg", jpeg, near=12),
        Example("JPEG", ".jpg", jpeg, channels=1, near=12),
        Example("JPEG with a preview (MPO)", ".jpg", phone, near=12),
        Example("JPEG, CMYK", ".jpg", other_colours("CMYK"), near=40),
        Example("JPEG 2000, 8 bits", ".jp2", pillow()),
        Example("JPEG 2000, 8 bits", ".jp2", pillow(), channels=1),
        Example("JPEG 2000, 8 bits with alpha", ".jp2", pillow_alpha(), has_alpha=True),
        Example("JPEG 2000, 16 bits of grey", ".jp2", lambda p, x: Image.fromarray(x[..., 0]).save(p), **grey16),
        Example("WebP", ".webp", pillow(lossless=True)),
        Example("WebP with alpha", ".webp", pillow_alpha(lossless=True, exact=True), has_alpha=True),
        Example("WebP, animation", ".webp", lambda p, x: animation(p, x, lossless=True)),
        Example("AVIF", ".avif", pillow(quality=100, subsampling="4:4:4"), near=12),
        Example("GIF", ".gif", palette),
        Example("GIF, animation", ".gif", lambda p, x: animation(p, np.repeat(x[..., :1], 3, -1)), channels=1),
        Example("BMP", ".bmp", pillow()),
        Example("TGA", ".tga", pillow()),
        Example("PGM, PPM, 8 bits", ".ppm", netpbm("P6", 255)),
        Example("PGM, PPM, 8 bits", ".pgm", netpbm("P5", 255), channels=1),
        Example("PGM, PPM, 16 bits", ".ppm", netpbm("P6"), **rgb16),
        Example("PGM, PPM, 16 bits", ".pgm", netpbm("P5"), **grey16),
        Example("PGM, PPM, 16 bits, as text", ".ppm", netpbm("P3"), **rgb16),
        Example("PGM, PPM, 16 bits, as text", ".pgm", netpbm("P2"), **grey16),
        Example("PFM", ".pfm", netpbm("PF"), **rgb16),
        Example("PFM", ".pfm", netpbm("Pf"), **grey16),
        Example("TIFF, signed 16 bits", ".tif", _signed, **grey16),
        Example("TIFF, 32-bit integers", ".tif", lambda p, x: tifffile.imwrite(p, x[..., 0].astype(np.uint32))),
        Example("TIFF, CMYK", ".tif", other_colours("CMYK"), near=2),
        Example("TIFF, palette", ".tif", palette),
        Example("TIFF, 1 bit, fax", ".tif", _fax, channels=1, bits=1),
        Example("TIFF, JPEG inside", ".tif", pillow(compression="jpeg", quality=100), near=12),
        Example("TIFF, 16 bits, big-endian", ".tif", tiff(byteorder=">"), **rgb16),
        Example("TIFF, 16 bits, BigTIFF", ".tif", tiff(bigtiff=True), **rgb16),
        Example("TIFF, 16 bits, tiles", ".tif", tiff(tile=(16, 16)), **rgb16),
        Example("TIFF, 16 bits, deflate", ".tif", tiff(compression="zlib"), **rgb16),
        Example("TIFF, 16 bits, deflate", ".tif", tiff(compression="zlib", predictor=True), **grey16),
        Example("TIFF, 16 bits, LZW", ".tif", lambda p, x: tiff_by_hand(p, x, **lzw), **rgb16),
        Example("TIFF, 16 bits, LZW", ".tif", lambda p, x: tiff_by_hand(p, x, **lzw), **grey16),
        Example("TIFF, 16 bits, LZW, predictor", ".tif", lambda p, x: tiff_by_hand(p, x, predictor=2, **lzw), **rgb16),
        Example(
            "TIFF, 16 bits, LZW, predictor",
            ".tif",
            lambda p, x: tiff_by_hand(p, x, predictor=2, order=">", **lzw),
            **grey16,
        ),
        Example("TIFF, 16 bits, Zstandard", ".tif", _zstandard, **grey16),
        Example("TIFF, several pages", ".tif", tiff_pages(1, 1), **rgb16),
        Example("TIFF, several pages", ".tif", tiff_pages(1, 1, dtype="uint8")),
    ]
    for bits, deep in ((8, False), (16, True)):
        dtype = f"uint{bits}"
        kind: dict = {"ending": ".tif", "bits": bits, "deep": deep}
        found += [
            Example(f"TIFF, {bits} bits", write=tiff(dtype=dtype), **kind),
            Example(f"TIFF, {bits} bits", write=tiff(dtype=dtype), channels=1, **kind),
            Example(
                f"TIFF, {bits} bits, white is 0 (MinIsWhite)",
                write=tiff(dtype=dtype, photometric="miniswhite"),
                channels=1,
                **kind,
            ),
            Example(f"TIFF, {bits} bits, planar", write=tiff(dtype=dtype, planarconfig="separate"), **kind),
            Example(
                f"TIFF, {bits} bits with alpha", write=tiff(dtype=dtype, alpha="unassalpha"), has_alpha=True, **kind
            ),
            Example(
                f"TIFF, {bits} bits with alpha",
                write=tiff(dtype=dtype, alpha="unassalpha"),
                channels=1,
                has_alpha=True,
                **kind,
            ),
            Example(
                f"TIFF, {bits} bits, multiplied with alpha",
                write=tiff(dtype=dtype, alpha="assocalpha"),
                has_alpha=True,
                **kind,
            ),
            Example(
                f"TIFF, {bits} bits, fourth channel not alpha", write=tiff(dtype=dtype, alpha="unspecified"), **kind
            ),
            Example(f"TIFF, {bits} bits, fourth channel not alpha", write=no_extra_samples(getattr(np, dtype)), **kind),
            Example(
                f"TIFF, {bits} bits, reduced page behind",
                write=tiff_pages(1, 2, reduced=(1,), dtype=dtype),
                **kind,
            ),
            Example(
                f"TIFF, {bits} bits, reduced page in front",
                write=tiff_pages(2, 1, reduced=(0,), dtype=dtype),
                **kind,
            ),
        ]
    for dtype in ("float16", "float32", "float64"):
        rounding = {"near": 1.1} if dtype == "float16" else {}  # its 11 digits do not hold 16 bits
        for channels in (1, 3):
            kind = {"channels": channels, "bits": 16, "deep": True, **rounding}
            found.append(Example("TIFF, floating point", ".tif", tiff(dtype=dtype), **kind))
    for o in range(1, 9):
        stored: dict[str, tuple[str, Callable[..., object], dict]] = {
            "PNG, 8 bits": (".png", lambda p, x, o: Image.fromarray(eight(x)).save(p, exif=exif_of(o)), {}),
            "PNG, 16 bits": (".png", turned_png16, rgb16),
            "JPEG": (".jpg", jpeg, {"near": 12}),
            "WebP": (".webp", lambda p, x, o: Image.fromarray(eight(x)).save(p, lossless=True, exif=exif_of(o)), {}),
            "TIFF, 8 bits": (".tif", tiff(dtype="uint8"), {}),
            "TIFF, 16 bits": (".tif", tiff(), rgb16),
        }
        found += [
            Example(f"{row}, orientation 1 to 8", ending, turned(write, o), **kind)
            for row, (ending, write, kind) in stored.items()
        ]
    return found


def _signed(path: Path, levels: Levels) -> None:
    tifffile.imwrite(path, (levels[..., 0] // 2).astype(np.int16))


def _fax(path: Path, levels: Levels) -> None:
    Image.fromarray(eight(levels) > 0).save(path, compression="group4")


def _zstandard(path: Path, levels: Levels) -> None:
    Image.fromarray(levels[..., 0]).save(path, compression="zstd")


EXAMPLES = _every()


def png_bytes(picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()
