"""Every format and mode ends as the same uint8 pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.pictures import Fit, decode, find_pictures, header

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [200, 100, 50]]], np.uint8)


def saved(tmp_path, picture: Image.Image, name: str = "a.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


def rgb(path) -> np.ndarray:
    return decode(path, "colour", Fit()).permute(1, 2, 0).numpy()


def test_colour_and_grey(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOURS))
    assert (rgb(path) == COLOURS).all()
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    grey = decode(path, "grey", Fit())
    assert grey.shape == (1, 2, 2) and np.abs(grey[0].numpy() - luma).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tif", "a.ppm", "a.TGA", "a.GIF", "a.jp2"])
def test_lossless_formats(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    assert (rgb(saved(tmp_path, Image.fromarray(COLOURS), name, **options)) == COLOURS).all()


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    values = np.array([[0, 128, 129, 257], [32768, 65535, 65407, 65406]], np.uint16)
    for name in ("a.png", "a.tif"):
        assert (
            decode(saved(tmp_path, Image.fromarray(values), name), "grey", Fit())[0].numpy() == np.round(values / 257)
        ).all()


def test_transparency_lies_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]], np.uint8)
    expected = np.array([[[10, 20, 30], [255, 255, 255], [204, 224, 244]]])
    assert np.abs(rgb(saved(tmp_path, Image.fromarray(pixels))).astype(int) - expected).max() <= 1
    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(grey, "LA")), "grey", Fit())[0].tolist() == [[10, 255]]


def test_palettes_one_bit_and_cmyk(tmp_path):
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    assert (rgb(saved(tmp_path, palette)) == np.asarray(palette.convert("RGB"))).all()
    bits = Image.fromarray(np.array([[True, False]]))
    assert decode(saved(tmp_path, bits), "grey", Fit())[0].tolist() == [[255, 0]]
    transparent = Image.new("P", (2, 1), 0)
    transparent.putpalette([9, 9, 9, 50, 60, 70])
    transparent.putpixel((1, 0), 1)
    assert rgb(saved(tmp_path, transparent, transparency=0)).tolist() == [[[255, 255, 255], [50, 60, 70]]]
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(rgb(saved(tmp_path, cmyk, "a.jpg", quality=100)).astype(int) - [255, 0, 0]).max() < 6


def test_exif_orientation(tmp_path):
    picture = Image.new("RGB", (16, 8), "black")
    picture.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show it: the white half comes to the top
    path = saved(tmp_path, picture, "a.jpg", exif=exif)
    assert header(path)[:2] == (8, 16)
    upright = rgb(path)
    assert upright.shape == (16, 8, 3) and upright[:7].mean() > 200 and upright[9:].mean() < 50


def test_values_without_a_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="floating-point"):
        decode(saved(tmp_path, Image.fromarray(np.full((2, 2), 77, np.float32)), "a.tif"), "grey", Fit())


FITS = [Fit(shorter=16, square=16), Fit(square=16), Fit(shorter=16), Fit(shorter=16, square=9), Fit(least=16), Fit()]


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (7, 100), (5, 5), (64, 64)])
@pytest.mark.parametrize("fit", FITS)
def test_fitted_size_is_what_is_said_beforehand(fit, size):
    result = fit(Image.new("L", size))
    assert result.size == fit.size(*size)
    if fit.square:
        assert result.size == (fit.square, fit.square)
    elif fit.shorter:
        assert min(result.size) == fit.shorter and abs(max(result.size) - max(size) * 16 / min(size)) <= 0.5
    elif fit.least > 1:
        assert min(result.size) == max(16, min(size))


def test_crop_is_the_middle():
    ramp = Image.fromarray(np.tile(np.arange(20, dtype=np.uint8), (10, 1)))
    assert np.asarray(Fit(square=10)(ramp))[0].tolist() == list(range(5, 15))


def test_reduction_does_not_alias():
    checks = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    small = np.asarray(Fit(shorter=16)(checks)).astype(int)[2:-2, 2:-2]
    assert np.abs(small - 127.5).max() < 3, "a pattern beyond the new resolution becomes its mean"


def test_listing_is_natural_nested_and_without_hidden_files(tmp_path):
    hidden = (".hidden.png", ".git/x.png", "__MACOSX/1.png", "notes.txt", "a.pdf")
    for name in ("10.png", "2.png", "1.PNG", "b/3.jpg", "B/1.tiff", "A.webp", *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.as_posix() for p in find_pictures(tmp_path)] == [
        "1.PNG",
        "2.png",
        "10.png",
        "A.webp",
        "B/1.tiff",
        "b/3.jpg",
    ]


def test_decoded_pixels_are_contiguous_uint8(tmp_path):
    pixels = decode(saved(tmp_path, Image.fromarray(COLOURS)), "colour", Fit())
    assert pixels.dtype == torch.uint8 and pixels.is_contiguous() and pixels.shape == (3, 2, 2)


def test_links_are_followed_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(b"")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert [p.as_posix() for p in find_pictures(root)] == ["link/1.png"]
