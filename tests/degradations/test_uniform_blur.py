"""Uniform blur: what the battery cannot know; beside SciPy's, its singular values in closed form, what is refused."""

import math

import pytest
import torch
from scipy.ndimage import uniform_filter

from common.errors import UserError
from degradations.uniform_blur import UniformBlur


@pytest.mark.parametrize(("boundary", "mode"), [("reflecting", "reflect"), ("circular", "wrap")])
@pytest.mark.parametrize("size", [1, 3, 9])
def test_it_is_scipys(boundary: str, mode: str, size: int):
    x = torch.rand(2, 3, 11, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = UniformBlur(size=size, boundary=boundary).bind({}, (3, 11, 17))(x)
    expected = torch.from_numpy(uniform_filter(x.numpy(), size, axes=(-2, -1), mode=mode))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_singular_values():
    """Of a circle of n pixels |sin(pi m size / n) / (size sin(pi m / n))|; with mirrors the angle is half of that."""
    side, size = 28, 9
    m = torch.arange(1, side).double()
    for boundary, period in (("circular", side), ("reflecting", 2 * side)):
        axis = torch.sin(math.pi * m * size / period) / (size * torch.sin(math.pi * m / period))
        axis = torch.cat([torch.ones(1).double(), axis.abs()])
        found = UniformBlur(boundary=boundary).bind({}, (1, side, side)).svd.singular_values
        expected = torch.outer(axis, axis).flatten()
        torch.testing.assert_close(found.sort().values, expected.sort().values, rtol=0, atol=1e-12)


def test_nine_pixels_are_nine():
    """The released code of DDRM has eight of them, and dims the inside of a white picture to 64 / 81."""
    y = UniformBlur(size=9).bind({}, (1, 28, 28))(torch.ones(1, 1, 28, 28, dtype=torch.float64))
    torch.testing.assert_close(y, torch.ones_like(y), rtol=0, atol=1e-13)
    point = torch.zeros(1, 1, 28, 28).double()
    point[0, 0, 14, 14] = 1
    assert int((UniformBlur(size=9).bind({}, (1, 28, 28))(point) > 1e-12).sum()) == 81


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UniformBlur(size=4), "size must be an odd number"),
        (lambda: UniformBlur(size=0), "size"),
        (lambda: UniformBlur(boundary="zero"), "boundary"),
        (lambda: UniformBlur(threshold=1.0), "threshold"),
        (lambda: UniformBlur(size=9, boundary="circular").bind({}, (1, 8, 8)), "larger than the image"),
    ],
)
def test_options_out_of_range_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
