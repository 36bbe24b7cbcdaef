"""Resizing to a prior's size: constants and means stay, noise shrinks as said, missing pixels spread to whatever they
touch.
"""

import pytest
import torch

from common.errors import UserError
from common.picture_files import Picture
from inference.resize import fitted


def test_a_ramp_stays_a_ramp():
    """Block means of a linear picture: halving by averages keeps the value at the middle of the new pixel, away from
    the border.
    """
    ramp = torch.linspace(-1, 1, 16).view(1, 1, 16).expand(3, 12, 16).contiguous()
    found = fitted(Picture(ramp), None, (6, 8)).picture.image
    assert found.shape == (3, 6, 8)
    middle = (ramp[0, 0, 0::2] + ramp[0, 0, 1::2]) / 2
    assert torch.allclose(found[0, 3, 1:-1], middle[1:-1], atol=1e-6)
    assert torch.allclose(
        fitted(Picture(torch.full((1, 5, 7), 0.3)), None, (9, 4)).picture.image, torch.full((1, 9, 4), 0.3)
    )


@pytest.mark.parametrize("size", [(20, 30), (64, 100), (90, 45), (60, 80)])
def test_noise_shrinks_as_said(size):
    """The standard deviation over many pictures of noise; 1 where the size stays, 1 / 2 or less where both sides are
    halved.
    """
    noise = torch.randn(400, 60, 80, generator=torch.Generator().manual_seed(0))
    found = fitted(Picture(noise), None, size)
    assert float(found.picture.image.std()) == pytest.approx(found.gain, rel=0.01)
    assert found.gain <= 1 + 1e-9 and (size != (60, 80) or found.gain == 1)


def test_known_are_those_that_touch_no_missing_pixel():
    image = torch.zeros(1, 16, 16)
    known = torch.ones(1, 1, 16, 16)
    known[..., 4, 4] = 0
    found = fitted(Picture(image), known, (8, 8)).known
    changed = fitted(Picture(torch.where(known[0] > 0, 0.0, 1.0)), None, (8, 8)).picture.image[0] > 1e-6
    assert torch.equal(found[0, 0] == 0, changed) and 0 < int(changed.sum()) < 10
    with pytest.raises(UserError, match="no pixel is known any more"):
        fitted(Picture(image), (torch.arange(256).view(1, 1, 16, 16) % 2).float(), (4, 4))


def test_alpha_and_bits_come_along():
    found = fitted(Picture(torch.zeros(1, 8, 8), alpha=torch.ones(1, 8, 8), bits=16), None, (4, 4)).picture
    assert found.bits == 16 and torch.allclose(found.alpha, torch.ones(1, 4, 4))
