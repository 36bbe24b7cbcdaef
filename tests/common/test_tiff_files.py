"""TIFF: strips, tiles, predictors and compressions give the levels that were written, and damage is named."""

import struct

import numpy as np
import pytest
import tifffile
from picture_examples import tiff_by_hand
from PIL import Image

from common.errors import UserError
from common.picture_decoding import read_stored
from common.picture_files import read_picture
from common.picture_formats import PictureError


def some(*shape: int, top: int = 65536) -> np.ndarray:
    return np.random.default_rng(3).integers(0, top, shape).astype(np.uint16 if top > 256 else np.uint8)


@pytest.mark.parametrize("top", [256, 65536])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_lzw(tmp_path, top, predictor, order, rows):
    """Of two byte orders, in strips of which the last is shorter."""
    levels = some(7, 9, 3, top=top)
    tiff_by_hand(tmp_path / "a.tif", levels, lzw=True, predictor=predictor, order=order, rows=rows)
    assert np.array_equal(read_stored(tmp_path / "a.tif").levels, levels)


def test_compressions_of_pillow_at_16_bits(tmp_path):
    """Its LZW is not ours: codes become longer, the table is full."""
    levels = np.arange(120 * 90, dtype=np.uint16).reshape(120, 90) * 5
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
        Image.fromarray(levels).save(tmp_path / "a.tif", compression=name)
        assert np.array_equal(read_stored(tmp_path / "a.tif").levels[..., 0], levels), name


def test_tiles_and_planes_through_the_other_way(tmp_path, monkeypatch):
    """What tifffile decodes by itself, decoded strip by strip and tile by tile, is the same."""
    levels = some(37, 50, 3)
    for options in ({"tile": (16, 32)}, {"rowsperstrip": 5}, {"planarconfig": "separate", "tile": (16, 16)}):
        stored = levels.transpose(2, 0, 1) if "planarconfig" in options else levels
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
        with monkeypatch.context() as patched:
            patched.setattr(tifffile.TiffPage, "asarray", _no_library)
            assert np.array_equal(read_stored(tmp_path / "a.tif").levels, levels), options


def _no_library(*_, **__):
    raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")


def test_the_floating_point_predictor(tmp_path):
    """Predictor 3, as libtiff writes it."""
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_adobe_deflate", tiffinfo={317: 3})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.predictor == 3
    assert np.array_equal(read_stored(tmp_path / "a.tif").levels[..., 0], values)


def test_colours_that_were_multiplied_with_alpha(tmp_path):
    """c = c' / alpha, at 8 and at 16 bits alike."""
    for white, dtype in ((255, np.uint8), (65535, np.uint16)):
        alpha = np.array([[white, white // 3], [0, white // 5]], dtype)[..., None]
        colours = np.full((2, 2, 3), white // 4, dtype)
        joined = np.concatenate([(colours * (alpha / white)).round().astype(dtype), alpha], -1)
        tifffile.imwrite(tmp_path / "a.tif", joined, photometric="rgb", extrasamples=["assocalpha"])
        found = read_picture(tmp_path / "a.tif")
        shown = np.broadcast_to(alpha[..., 0] > 0, (3, 2, 2))
        assert np.abs((found.image.numpy() + 1) / 2 - 0.25)[shown].max() < 5 / white + 0.002
        assert found.visible[0].tolist() == [[True, True], [False, True]]


def test_a_preview_in_front_of_a_picture_in_a_sub_directory(tmp_path):
    levels = some(8, 6, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(levels[::2, ::2], photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(levels, photometric="rgb", metadata=None)
    assert np.array_equal(read_stored(tmp_path / "a.tif").levels, levels)


def test_damage_and_kinds_without_a_meaning(tmp_path):
    tiff_by_hand(tmp_path / "a.tif", some(7, 9, 3), lzw=True)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-40])
    tifffile.imwrite(tmp_path / "many.tif", some(7, 9, 5), photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "signed8.tif", some(7, 9, top=256).astype(np.int8))
    tifffile.imwrite(
        tmp_path / "volume.tif", some(3, 7, 9), photometric="minisblack", volumetric=True, tile=(16, 16, 16)
    )
    tiff_by_hand(tmp_path / "deep.tif", some(7, 9, 1))
    camera = (tmp_path / "deep.tif").read_bytes().replace(*(struct.pack("<HHII", 258, 4, 1, b) for b in (16, 12)))
    (tmp_path / "camera.tif").write_bytes(camera)
    words = {
        "camera": "12 bits a channel",
        "cut": "damaged",
        "many": "5 channels",
        "signed8": "int8",
        "volume": "depth|pictures",
    }
    for name, match in words.items():
        with pytest.raises(PictureError, match=match):
            read_stored(tmp_path / f"{name}.tif")
        with pytest.raises(UserError):
            read_picture(tmp_path / f"{name}.tif")
