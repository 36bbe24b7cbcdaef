"""JPEG equals Pillow's files to the last bit; the gradient is that of the same without rounding; what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.image_range import to_float, to_uint8
from degradations.jpeg import JPEG

QUALITIES = (1, 5, 10, 25, 50, 75, 90, 100)


def _picture(kind: str, height: int, width: int, channels: int) -> np.ndarray:
    """uint8 [height, width, channels]: noise, or smooth colours with edges."""
    generator = np.random.default_rng(height)
    if kind == "noise":
        return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
    down, right = np.mgrid[:height, :width]
    waves = [128 + 120 * np.sin(down / (3 + c) + c) * np.cos(right / (4 - c)) for c in range(channels)]
    picture = np.stack(waves, -1)
    picture[height // 3 : height // 2, width // 4 :] = generator.integers(0, 256, channels)
    return picture.astype(np.uint8)


def _pillows(picture: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    file = io.BytesIO()
    squeezed = picture[..., 0] if picture.shape[-1] == 1 else picture
    Image.fromarray(squeezed).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file)).reshape(picture.shape)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return to_float(torch.from_numpy(picture).permute(2, 0, 1))[None]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize("size", [(32, 48), (28, 28), (37, 51), (36, 50), (9, 6), (5, 4)])
def test_colour_is_pillows(size: tuple[int, int], kind: str, subsampling: str):
    """All values equal, also where the sides are no multiples of 8 or 16, or odd."""
    picture = _picture(kind, *size, 3)
    for quality in QUALITIES:
        operator = JPEG(quality=quality, subsampling=subsampling).bind({}, (3, *size))
        found = to_uint8(operator(_tensor(picture)))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, _pillows(picture, quality, subsampling), err_msg=f"quality {quality}")


@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize("size", [(32, 48), (28, 28), (37, 51), (1, 3)])
def test_grey_is_pillows(size: tuple[int, int], kind: str):
    picture = _picture(kind, *size, 1)
    for quality in QUALITIES:
        found = to_uint8(JPEG(quality=quality).bind({}, (1, *size))(_tensor(picture)))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, _pillows(picture, quality, "4:4:4"), err_msg=f"quality {quality}")


def test_what_is_between_two_levels_is_rounded_and_beyond_the_range_clipped():
    picture = _picture("smooth", 16, 16, 3)
    operator, x = JPEG(quality=20).bind({}, (3, 16, 16)), _tensor(picture)
    moved = x + 0.49 / 127.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    assert torch.equal(operator(moved), operator(x))
    assert torch.equal(operator(3 * x), operator((3 * x).clamp(-1, 1)))


def test_a_decoded_file_is_nearly_its_own_jpeg():
    """Written again with the same table, without colours, only clipping and 8 bits are new."""
    operator, x = JPEG(quality=10).bind({}, (1, 32, 48)), _tensor(_picture("smooth", 32, 48, 1))
    once = operator(x)
    assert float((operator(once) - once).abs().max()) < 3 / 127.5 < float((once - x).abs().max())


@pytest.mark.parametrize(("channels", "subsampling"), [(1, "4:2:0"), (3, "4:4:4")])
def test_without_subsampling_the_gradient_passes_straight_through(channels: int, subsampling: str):
    operator = JPEG(quality=5, subsampling=subsampling).bind({}, (channels, 9, 12))
    x = torch.linspace(-1.5, 1.5, channels * 108, dtype=torch.float64).view(1, channels, 9, 12).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((operator(x) * weights).sum(), x)
    torch.testing.assert_close(gradient, torch.where(x.abs() <= 1, weights, 0.0), rtol=0, atol=0)


def test_subsampled_colours_have_the_gradient_of_their_averages():
    """A tint of the whole picture passes, one that changes from pixel to pixel does not, grey always does."""
    operator, base = JPEG(quality=30).bind({}, (3, 16, 16)), torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    checks = (1.0 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2)).double()
    blue_less_grey = torch.tensor([-0.114, -0.114, 0.886], dtype=torch.float64).view(3, 1, 1)
    for direction, passes in (
        (blue_less_grey.expand(3, 16, 16), True),
        (blue_less_grey * checks, False),
        (checks.expand(3, 16, 16), True),
    ):
        expected = direction if passes else torch.zeros_like(direction)
        _, along = torch.autograd.functional.jvp(operator.smooth, base, direction[None].contiguous())
        torch.testing.assert_close(along[0], expected, rtol=0, atol=1e-4)  # libjpeg's numbers of colours have 16 bits


@pytest.mark.parametrize("size", [(5, 4), (7, 5), (8, 8), (9, 11), (12, 10)])
def test_the_norm_bounds_the_derivative(size: tuple[int, int]):
    operator = JPEG().bind({}, (3, *size))
    inputs = 3 * size[0] * size[1]
    matrix = operator.smooth(torch.eye(inputs).double().view(inputs, 3, *size) / 4).flatten(1) * 4
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    assert 1.15 < largest < 1.182 < operator.norm()


def test_a_residual_pulls_to_the_picture_that_was_stored():
    """Gradient steps on |y - A x|^2 from mid-grey end where the same file comes out, or nearly."""
    truth = _tensor(_picture("smooth", 24, 24, 1)).double()
    operator = JPEG(quality=20).bind({}, (1, 24, 24))
    y, x = operator(truth), torch.zeros_like(truth)
    before = float((y - operator(x)).norm())
    for _ in range(60):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad((y - operator(x)).square().sum() / 2, x)
        x = (x - 0.5 * gradient).detach()
    assert float((y - operator(x)).norm()) < 0.05 * before


def test_options_out_of_range_are_refused():
    for options, words in (({"quality": 0}, "quality must be"), ({"subsampling": "4:1:1"}, "subsampling must be")):
        with pytest.raises(UserError, match=words):
            JPEG(**options)
    with pytest.raises(UserError, match="2 channels"):
        JPEG().bind({}, (2, 8, 8))
    assert JPEG(quality=7).bind({}, (1, 8, 8)).description == "JPEG of quality 7"
