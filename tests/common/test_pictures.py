import io

import numpy as np
import pytest
import torch
from PIL import Image

from common.pictures import as_picture, captioned, grid, png_bytes


def test_grid_enlarges_small_images_and_leaves_gaps():
    x = torch.stack([torch.full((1, 8, 8), -1.0), torch.full((1, 8, 8), 1.0), torch.full((1, 8, 8), -1.0)])
    picture = grid(x, columns=2, at_least=64)
    gap = 4
    assert picture.shape == (2 * (64 + gap) + gap, 2 * (64 + gap) + gap) and picture.dtype == np.uint8
    assert (picture[gap : gap + 64, gap : gap + 64] == 0).all() and (
        picture[gap : gap + 64, 2 * gap + 64 : 2 * gap + 128] == 255
    ).all()
    assert (picture[:gap] == 128).all() and (picture[-20:, -20:] == 128).all()


def test_colour_and_png_round_trip():
    x = torch.rand(3, 5, 7) * 2 - 1
    picture = as_picture(x)
    assert picture.shape == (5, 7, 3)
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(picture)))) == picture).all()


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="N > 0"):
        grid(torch.zeros(0, 1, 8, 8))


def test_a_caption_stands_above_each_picture():
    x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    shown = captioned(x, ["given", "truth"], at_least=64)
    assert shown.shape == (2, 3, 20 + 64, 64) and torch.equal(shown[:, :, 20::8, ::8], x)
    heads = shown[:, :, :20]
    assert (heads < 0).any() and not torch.equal(heads[0], heads[1])
