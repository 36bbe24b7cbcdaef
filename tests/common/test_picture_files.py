"""Pictures as a person has them: 8 and 16 bits, floating point, alpha, palettes, turned cameras; and back."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from picture_examples import too_large
from PIL import Image

from common import png16
from common.errors import UserError
from common.image_range import to_float
from common.picture_files import Picture, read_8_bits, read_opaque, read_picture, write_picture


def pixels(*shape: int, seed: int = 0, top: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8 if top == 256 else np.uint16)


def eight(path) -> np.ndarray:
    """[C, H, W] of the image as levels."""
    return ((read_picture(path).image + 1) * 127.5).round().numpy().astype(np.uint8)


def test_eight_bits(tmp_path):
    colour, grey = pixels(6, 5, 3), pixels(6, 5)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    found = read_picture(tmp_path / "grey.png")
    assert (
        torch.equal(found.image[0], to_float(torch.from_numpy(grey)))
        and found.alpha is None
        and found.bits == 8
        and found.visible is None
    )
    palette = Image.fromarray(colour).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(eight(tmp_path / "palette.png"), np.array(palette.convert("RGB")).transpose(2, 0, 1))
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    assert set(read_picture(tmp_path / "bits.png").image.unique().tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera(tmp_path, orientation):
    """16 bits are turned as Pillow turns 8."""
    grey = pixels(4, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png", exif=exif)
    tifffile.imwrite(
        tmp_path / "deep.tif",
        grey.astype(np.uint16) * 257,
        photometric="minisblack",
        extratags=[(274, 3, 1, orientation, True)],
    )
    expected = read_picture(tmp_path / "turned.png").image
    for name in ("deep.png", "deep.tif"):
        assert torch.allclose(read_picture(tmp_path / name).image, expected, atol=1e-6), name


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_there_and_back_in_kind(tmp_path, bits, channels):
    """The same levels, the same bits, the same channels: nothing is lost by reading and writing."""
    array = pixels(7, 5, channels, top=2**bits)
    if bits == 16:
        (tmp_path / "in.png").write_bytes(png16.encode(array))
    else:
        Image.fromarray(array[..., 0] if channels == 1 else array).save(tmp_path / "in.png")
    picture = read_picture(tmp_path / "in.png")
    assert (
        picture.bits == bits
        and picture.image.shape == (1 if channels < 3 else 3, 7, 5)
        and (picture.alpha is not None) == (channels in (2, 4))
    )
    write_picture(tmp_path / "out.png", picture)
    if bits == 16:
        assert np.array_equal(png16.decode((tmp_path / "out.png").read_bytes()), array)
    else:
        with Image.open(tmp_path / "out.png") as again:
            assert np.array_equal(np.array(again).reshape(array.shape), array)


def test_levels_are_the_same_at_both_depths(tmp_path):
    """257 p of 65535 is p of 255; values out of range are clipped."""
    array = pixels(6, 5, 3)
    Image.fromarray(array).save(tmp_path / "8.png")
    (tmp_path / "16.png").write_bytes(png16.encode(array.astype(np.uint16) * 257))
    assert torch.allclose(read_picture(tmp_path / "8.png").image, read_picture(tmp_path / "16.png").image, atol=1e-6)
    write_picture(tmp_path / "beyond.png", Picture(torch.tensor([[[-1.5, -1.0], [1.0, 7.0]]]), bits=16))
    assert png16.decode((tmp_path / "beyond.png").read_bytes()).ravel().tolist() == [0, 0, 65535, 65535]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 4)])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_and_floating_point(tmp_path, shape, planar, order):
    array = pixels(*shape, top=65536)
    options = {
        "photometric": "rgb" if len(shape) == 3 else "minisblack",
        "byteorder": order,
        **({"extrasamples": ["unassalpha"]} if shape[2:] == (4,) else {}),
    }
    if len(shape) == 3 and planar:
        stored, options["planarconfig"] = array.transpose(2, 0, 1), "separate"
    else:
        stored = array
    tifffile.imwrite(tmp_path / "16.tif", stored, **options)
    tifffile.imwrite(tmp_path / "float.tif", (stored / 65535).astype(np.float32), compression="zlib", **options)
    expected = torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).astype(np.float32)) / 32767.5 - 1
    for name in ("16.tif", "float.tif"):
        found = read_picture(tmp_path / name)
        assert found.bits == 16 and torch.allclose(found.image, expected[:3], atol=1e-6)
        assert (found.alpha is not None) == (shape[2:] == (4,))
        if found.alpha is not None:
            assert torch.allclose(found.alpha, (expected[3:] + 1) / 2, atol=1e-6)


def test_tiff_where_white_is_zero(tmp_path):
    array = pixels(6, 5, top=65536)
    tifffile.imwrite(tmp_path / "white.tif", array, photometric="miniswhite")
    assert torch.allclose(
        read_picture(tmp_path / "white.tif").image[0],
        1 - torch.from_numpy(array.astype(np.float32)) / 32767.5,
        atol=1e-6,
    )


def test_tiff_of_8_bits(tmp_path):
    array = pixels(6, 5, 3)
    tifffile.imwrite(tmp_path / "8.tif", array, photometric="rgb")
    assert read_picture(tmp_path / "8.tif").bits == 8 and np.array_equal(
        eight(tmp_path / "8.tif"), array.transpose(2, 0, 1)
    )


def test_alpha(tmp_path):
    """Colours under an alpha channel are as they are; fully transparent pixels are not visible; a palette's transparent
    colour counts.
    """
    rgba = pixels(6, 5, 4)
    rgba[..., 3] = 200
    rgba[2, 3, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert np.array_equal(eight(tmp_path / "a.png"), rgba[..., :3].transpose(2, 0, 1))
    assert float(found.alpha[0, 0, 0]) == pytest.approx(200 / 255) and torch.nonzero(~found.visible).tolist() == [
        [0, 2, 3]
    ]
    palette = Image.fromarray(rgba[..., :3]).quantize(4)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    assert not bool(read_picture(tmp_path / "p.png").visible[0, 0, 0])
    Image.fromarray(np.full((4, 4, 2), 255, np.uint8)).save(tmp_path / "opaque.png")
    assert (
        read_picture(tmp_path / "opaque.png").visible is None
        and read_picture(tmp_path / "opaque.png").alpha is not None
    )


def test_only_opaque_ones(tmp_path):
    rgba = np.full((4, 4, 4), 255, np.uint8)
    Image.fromarray(rgba).save(tmp_path / "opaque.png")
    assert read_opaque(tmp_path / "opaque.png").shape == (3, 4, 4)
    rgba[0, 0, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    with pytest.raises(UserError, match="transparent pixels"):
        read_opaque(tmp_path / "clear.png")


def test_what_cannot_be_read(tmp_path):
    def refused(name: str, match: str) -> None:
        with pytest.raises(UserError, match=match) as outcome:
            read_picture(tmp_path / name)
        assert "\n" not in str(outcome.value)

    tifffile.imwrite(tmp_path / "cmyk.tif", pixels(6, 5, 4, top=65536), photometric="separated")
    refused("cmyk.tif", "kind SEPARATED")
    tifffile.imwrite(tmp_path / "pages.tif", pixels(3, 6, 5, top=65536), photometric="minisblack")
    refused("pages.tif", "holds 3 pictures")
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((6, 5), np.uint32), photometric="minisblack")
    refused("deep.tif", "32 bits a channel")
    tifffile.imwrite(tmp_path / "signed.tif", np.zeros((6, 5), np.int16), photometric="minisblack")
    refused("signed.tif", "int16")
    tifffile.imwrite(tmp_path / "levels.tif", pixels(6, 5).astype(np.float32), photometric="minisblack")
    refused("levels.tif", "0 is black and 1 is white")
    for name, value in (("nan.tif", np.nan), ("infinite.tif", np.inf)):
        array = np.full((6, 5), 0.5, np.float32)
        array[1, 2] = value
        tifffile.imwrite(tmp_path / name, array, photometric="minisblack")
        refused(name, "1 pixel of NaN or infinite value")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "pages.tif").read_bytes()[:12])
    refused("cut.tif", "cannot be read")
    (tmp_path / "half.tif").write_bytes((tmp_path / "levels.tif").read_bytes()[:-60])
    refused("half.tif", "cannot be read")
    Image.fromarray(pixels(6, 5, 3)).convert("LAB").save(tmp_path / "lab.tif")
    refused("lab.tif", "colour mode LAB")


def test_a_picture_that_is_too_large_is_called_so(tmp_path):
    """Whoever opens it: as one of its size, not as one that is damaged."""
    (tmp_path / "huge.png").write_bytes(too_large())
    deep = bytearray(too_large())
    deep[24] = 16  # bits; the check sum of the header with it
    deep[29:33] = zlib.crc32(bytes(deep[12:29])).to_bytes(4, "big")
    (tmp_path / "deep.png").write_bytes(bytes(deep))
    for name in ("huge.png", "deep.png"):
        with pytest.raises(UserError, match=r"is too large: it has (900000000|30000x30000) pixels"):
            read_picture(tmp_path / name)


def test_eight_bits_are_the_nearest_ones(tmp_path):
    """16 bits of colour are rounded, where Pillow takes the high byte: 65,407 is 255, 129 is 1."""
    values = np.array([[0, 128, 129, 257], [32768, 65535, 65407, 65406]], np.uint16)
    deep = np.stack([values, values[::-1], values], -1)
    (tmp_path / "a.png").write_bytes(png16.encode(deep))
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    for name in ("a.png", "a.tif"):
        assert np.array_equal(np.array(read_8_bits(tmp_path / name, "colour")), np.round(deep / 257)), name


@pytest.mark.parametrize("folder", ["degradations", "datamodules", "inference", "restoration", "metrics", "training"])
def test_nothing_else_opens_pictures(folder):
    """One reader: what opens a picture by itself reads it by other rules."""
    root = Path(__file__).resolve().parents[2]
    found = [p.name for p in (root / folder).rglob("*.py") if re.search(r"Image\.open|tifffile|imread", p.read_text())]
    assert not found, f"{found}: use common.picture_files"


def test_studies_open_pictures_by_the_one_reader():
    root = Path(__file__).resolve().parents[2]
    assert not [p.name for p in (root / "studies").rglob("*.py") if "Image.open" in p.read_text()]
