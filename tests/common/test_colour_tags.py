"""What says what levels mean is there again in the file that is written."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from common import png16
from common.picture_files import Picture, read_picture, write_picture

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
CHUNKS = [
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"sRGB", b"\0"),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)),
]


def colour(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def png(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def written(path, picture: Picture) -> tuple[bytes | None, Image.Image]:
    """(profile, picture) as Pillow finds them in what is written."""
    write_picture(path, picture)
    with Image.open(path) as opened:
        opened.load()
        return opened.info.get("icc_profile"), opened


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif", "deep.png", "deep.tif"])
def test_a_profile_is_carried_from_every_format(tmp_path, name):
    path = tmp_path / name
    if name == "deep.png":
        icc = (b"iCCP", b"any name\0\0" + zlib.compress(RGB_PROFILE))
        path.write_bytes(png16.with_chunks(png16.encode(colour().astype(np.uint16) * 257), [icc]))
    elif name == "deep.tif":
        tifffile.imwrite(path, colour().astype(np.uint16) * 257, photometric="rgb", iccprofile=RGB_PROFILE)
    else:
        Image.fromarray(colour()).save(path, icc_profile=RGB_PROFILE)
    picture = read_picture(path)
    assert picture.bits == (16 if "deep" in name else 8)
    assert written(tmp_path / "out.png", picture)[0] == RGB_PROFILE


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda c: c[0].decode())
def test_chunks_of_a_png_are_carried_as_they_are(tmp_path, bits, chunk):
    plain = png(colour()) if bits == 8 else png16.encode(colour().astype(np.uint16) * 257)
    (tmp_path / "in.png").write_bytes(png16.with_chunks(plain, [chunk]))
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png"))
    found = png16.chunks_before_pixels((tmp_path / "out.png").read_bytes())
    assert found[chunk[0]] == chunk[1] and list(found) == [b"IHDR", chunk[0]]
    assert read_picture(tmp_path / "out.png").image.equal(read_picture(tmp_path / "in.png").image)


def test_without_a_profile_the_file_is_what_it_was(tmp_path):
    (tmp_path / "in.png").write_bytes(png(colour()))
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png"))
    assert list(png16.chunks_before_pixels((tmp_path / "out.png").read_bytes())) == [b"IHDR"]


def test_a_profile_belongs_to_its_number_of_channels(tmp_path):
    """An RGB profile in a grey PNG is an error of the file: the grey picture is written in colour, with equal channels.
    The profile of a grey picture says nothing about colours that were restored.
    """
    (tmp_path / "rgb.png").write_bytes(png(colour(), icc_profile=RGB_PROFILE))
    (tmp_path / "grey.png").write_bytes(png(colour()[..., 0], icc_profile=GREY_PROFILE))
    rgb, grey = read_picture(tmp_path / "rgb.png"), read_picture(tmp_path / "grey.png")
    profile, opened = written(tmp_path / "1.png", Picture(rgb.image[:1], tags=rgb.tags))
    assert profile == RGB_PROFILE and opened.mode == "RGB" and np.ptp(np.array(opened), axis=-1).max() == 0
    profile, opened = written(tmp_path / "2.png", grey)
    assert profile == GREY_PROFILE and opened.mode == "L"
    assert written(tmp_path / "3.png", Picture(rgb.image, tags=grey.tags))[0] is None


def test_adobe_rgb_that_a_camera_names_in_exif_alone(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(colour()).save(tmp_path / "a.jpg", exif=exif)
    write_picture(tmp_path / "out.png", read_picture(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.info["gamma"] == pytest.approx(1 / 2.19921875, abs=1e-5)
        assert opened.info["chromaticity"][4:6] == pytest.approx((0.21, 0.71))


def test_a_damaged_profile_says_nothing(tmp_path):
    (tmp_path / "in.png").write_bytes(
        png16.with_chunks(png16.encode(np.zeros((3, 3, 1), np.uint16)), [(b"iCCP", b"x\0\0no profile")])
    )
    assert read_picture(tmp_path / "in.png").tags.icc is None
