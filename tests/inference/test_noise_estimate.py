"""The noise of a picture: found within a tenth, from known pixels alone, never assumed in a picture that was made
smaller.
"""

import pytest
import torch

from common.errors import UserError
from degradations.average_pool import AveragePooling
from degradations.identity import IdentityOperator
from inference.noise_estimate import estimated_sigma_255, user_noise


def noisy(sigma_255: float, height: int = 96, width: int = 80) -> torch.Tensor:
    """A smooth colour picture with noise of this level."""
    down, right = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    clean = torch.stack([down, right, (3 * down * right).sin()]) * 0.6
    return clean + sigma_255 / 127.5 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma_255", [5, 15, 25, 50])
def test_the_estimate_is_near(sigma_255):
    assert estimated_sigma_255(noisy(sigma_255), None) == pytest.approx(sigma_255, rel=0.1)


def test_only_known_pixels_count():
    """Half of the pixels hold something else: the estimate does not see them; without two known neighbours there is
    none.
    """
    image, known = noisy(20), torch.ones(1, 1, 96, 80)
    known[..., :48, :] = 0
    painted = torch.where(known[0] > 0, image, torch.rand(image.shape, generator=torch.Generator().manual_seed(1)))
    assert estimated_sigma_255(painted, known) == pytest.approx(20, rel=0.1)
    lines = torch.zeros(1, 1, 96, 80)
    lines[..., ::2, :] = 1
    assert estimated_sigma_255(image, lines) == pytest.approx(20, rel=0.1)
    lines[..., ::2] = 0
    assert estimated_sigma_255(image, lines) == 0


@pytest.mark.parametrize("level", [-1.0, -0.396, 1.0])
def test_a_flat_picture_has_none(level):
    """Not the 1e-15 of its rounding, which would choose another stopping criterion than "0.0 of 255" says."""
    assert user_noise(torch.full((3, 32, 32), level), None, IdentityOperator((3, 32, 32)), None)[0] == 0.0


def test_what_is_said():
    image = noisy(20)
    identity, smaller = IdentityOperator((3, 96, 80)), AveragePooling(2, (3, 192, 160))
    assert user_noise(image, None, identity, 7.0) == (7.0, None)
    assert user_noise(image, None, identity, 0.0) == (0.0, None)
    found, words = user_noise(image, None, identity, None)
    assert f"estimated at {found:.1f} of 255" in words
    none, words = user_noise(image, None, smaller, None)
    assert none == 0 and "none is assumed" in words
    for level in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--sigma_255 must be finite and at least 0"):
            user_noise(image, None, identity, level)


def test_scattered_known_pixels_are_enough():
    """Half of the pixels at random: hardly a window of 4x4 is known, those of 2x2 are."""
    known = (torch.rand(1, 1, 96, 80, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    assert estimated_sigma_255(noisy(25) * known[0], known) == pytest.approx(25, rel=0.15)


def test_a_picture_without_noise_has_none():
    """A stroke on black, and a plane, of which the filter sees nothing."""
    stroke = torch.full((1, 28, 28), -1.0)
    stroke[:, 8:20, 13:15] = 1.0
    assert estimated_sigma_255(stroke) < 1e-3
    assert estimated_sigma_255(torch.linspace(-1, 1, 30).expand(1, 25, 30)) < 1e-3
    assert estimated_sigma_255(torch.rand(1, 2, 1)) == 0


def test_as_scikit_image_where_it_can():
    pytest.importorskip("pywt")
    from skimage.restoration import estimate_sigma

    image = noisy(20)
    assert estimated_sigma_255(image) == pytest.approx(
        127.5 * estimate_sigma(image.numpy(), average_sigmas=True, channel_axis=0), rel=0.05
    )
