"""Images as pictures that a person looks at: 8-bit PNG, grids with gaps, small images enlarged."""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from common.image_range import to_uint8

GAP_COLOUR = 0.0  # mid-grey in [-1, 1]: neither the black nor the white of an image


def png_bytes(image: np.ndarray) -> bytes:
    """A uint8 array [H, W] or [H, W, 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_picture(x: Tensor) -> np.ndarray:
    """One image [C, H, W] in [-1, 1], C = 1 or 3, as uint8 [H, W] or [H, W, 3]."""
    pixels = to_uint8(x).cpu()
    return pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()


def enlargement(side: int, *, at_least: int = 64) -> int:
    """The whole factor by which an image of this side is enlarged so that it is at least so many pixels wide."""
    return max(1, math.ceil(at_least / side))


def grid(x: Tensor, *, columns: int | None = None, at_least: int = 64) -> np.ndarray:
    """Images [N, C, H, W] in [-1, 1] side by side as uint8 [H', W'(, 3)]: enlarged by nearest neighbour to `at_least`
    pixels, with gaps between them.
    """
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(f"x must be [N, C, H, W] with N > 0, got {list(x.shape)}")
    n, c, _, w = x.shape
    columns = columns or math.ceil(math.sqrt(n))
    factor = enlargement(w, at_least=at_least)
    tiles = x.float().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    gap = max(2, tiles.shape[-1] // 16)
    tiles = F.pad(tiles, (0, gap, 0, gap), value=GAP_COLOUR)
    rows = math.ceil(n / columns)
    empty = torch.full((rows * columns - n, *tiles.shape[1:]), GAP_COLOUR)
    tiles = torch.cat([tiles, empty]).view(rows, columns, c, *tiles.shape[-2:])
    sheet = tiles.permute(2, 0, 3, 1, 4).reshape(c, rows * tiles.shape[-2], columns * tiles.shape[-1])
    return as_picture(F.pad(sheet, (gap, 0, gap, 0), value=GAP_COLOUR))


def captioned(x: Tensor, captions: list[str], *, at_least: int = 128) -> Tensor:
    """Pictures [N, 3, H, W] in [-1, 1], enlarged by nearest neighbour to `at_least` pixels, each under its caption."""
    factor = enlargement(x.shape[-1], at_least=at_least)
    tiles = x.float().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    font, heads = ImageFont.load_default(13), []
    for caption in captions:
        head = Image.new("RGB", (tiles.shape[-1], 20), (250, 250, 248))
        ImageDraw.Draw(head).text((tiles.shape[-1] / 2, 10), caption, (30, 30, 30), font, anchor="mm")
        heads.append(torch.from_numpy(np.array(head)).permute(2, 0, 1) / 127.5 - 1)
    return torch.cat([torch.stack(heads), tiles], dim=2)
