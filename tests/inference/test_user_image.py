"""A person's picture as a measurement: what is known, what noise is left, what the truth says, what is written."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.picture_files import Picture
from degradations.average_pool import AveragePool
from degradations.given_mask import GivenMask
from degradations.identity import Identity, IdentityOperator
from inference.user_image import bound, nearest_known, quality, restored_pictures, user_measurement, user_truth
from metrics.distortion import psnr, ssim


def picture(
    channels: int = 3, height: int = 12, width: int = 14, clear: tuple[int, int] | None = None, bits: int = 8
) -> Picture:
    image = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    alpha = None
    if clear is not None:
        alpha = torch.ones(1, height, width)
        alpha[0, : clear[0], : clear[1]] = 0
    return Picture(image, alpha, bits)


@pytest.fixture
def mask(tmp_path):
    pixels = np.full((12, 14), 255, np.uint8)
    pixels[6:9, 2:12] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    return GivenMask(path=str(tmp_path / "mask.png"))


def test_an_opaque_picture_is_the_measurement():
    given = picture()
    same, measurement = user_measurement(given, Identity(), sigma_255=25.5)
    assert torch.equal(measurement.y[0], given.image) and isinstance(measurement.operator, IdentityOperator)
    assert measurement.sigma == pytest.approx(0.2) and torch.equal(same.image, given.image)


def test_transparent_pixels_are_missing(mask):
    """Noise alone becomes a mask; a mask loses them too; what stands there does not matter."""
    given = picture(clear=(3, 4))
    for degradation, missing in ((Identity(), 12), (mask, 12 + 30)):
        _, measurement = user_measurement(given, degradation, sigma_255=0)
        assert int((measurement.operator.mask == 0).sum()) == missing
        other = Picture(torch.where(given.visible, given.image, 0.77), given.alpha)
        assert torch.equal(user_measurement(other, degradation, sigma_255=0)[1].y, measurement.y)


def test_transparent_pixels_of_a_small_picture_get_the_nearest_colour():
    given = picture(1, clear=(3, 4))
    changed, measurement = user_measurement(given, AveragePool(factor=2), sigma_255=0)
    assert measurement.operator.mask is None and measurement.operator.input_shape == (1, 24, 28)
    assert torch.equal(measurement.y[0], changed.image) and torch.equal(changed.image[0, 2, :3], given.image[0, 3, :3])
    assert torch.equal(changed.image[:, 3:], given.image[:, 3:])
    assert user_measurement(given, Identity(), sigma_255=0, masks=False)[1].operator.mask is None


def test_nearest_known():
    image = torch.arange(9.0).view(1, 3, 3)
    known = torch.ones(3, 3, dtype=torch.bool)
    known[0, 0] = known[0, 1] = known[1, 0] = False
    filled = nearest_known(image, known)
    assert (
        torch.equal(filled[:, known], image[:, known])
        and float(filled[0, 0, 1]) in (2.0, 4.0)
        and float(filled[0, 0, 0]) == 4.0
    )


def test_nothing_known_and_too_large():
    with pytest.raises(UserError, match="all are missing or transparent"):
        bound(picture(clear=(12, 14)), Identity())
    with pytest.raises(UserError, match="would have 140000x120000 pixels"):
        bound(picture(), AveragePool(factor=10000))


def test_resized_to_a_prior(mask):
    """The restored picture has the size that was asked for, the operator fits, noise is less, missing pixels stay
    missing.
    """
    _, plain = user_measurement(picture(), Identity(), sigma_255=20, size=(6, 7))
    assert plain.operator.input_shape == (3, 6, 7) and 0 < plain.noise.sigma < 0.6 * 20 / 127.5
    _, masked = user_measurement(picture(), mask, sigma_255=20, size=(6, 7))
    assert masked.operator.mask.shape == (1, 1, 6, 7) and 0 < float(masked.operator.mask.mean()) < 1
    _, small = user_measurement(picture(), AveragePool(factor=2), sigma_255=0, size=(8, 8))
    assert small.operator.input_shape == (3, 8, 8) and small.y.shape == (1, 3, 4, 4)
    with pytest.raises(UserError, match="factor=3 does not divide"):
        user_measurement(picture(), AveragePool(factor=3), sigma_255=0, size=(8, 8))


def test_the_truth_must_fit():
    truth = picture(3, 8, 9)
    assert user_truth(truth, (3, 8, 9), "t.png") is truth.image
    equal = Picture(truth.image[:1].expand(3, -1, -1))
    assert user_truth(equal, (1, 8, 9), "t.png").shape == (1, 8, 9)
    with pytest.raises(UserError, match="has 9x8 pixels"):
        user_truth(truth, (3, 9, 8), "t.png")
    with pytest.raises(UserError, match="is in colour, the picture is restored in grey"):
        user_truth(truth, (1, 8, 9), "t.png")
    with pytest.raises(UserError, match="is in grey, the picture is restored in colour"):
        user_truth(picture(1, 8, 9), (3, 8, 9), "t.png")


def test_quality_is_that_of_the_metrics_and_of_visible_pixels():
    levels = torch.randint(0, 256, (2, 3, 16, 20), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x, truth = levels.float() / 127.5 - 1
    assert quality(x, truth) == (
        pytest.approx(float(psnr(levels[:1], levels[1:]))),
        pytest.approx(float(ssim(levels[:1], levels[1:]))),
    )
    visible = torch.zeros(1, 16, 20, dtype=torch.bool)
    visible[:, 3:, 5:] = True
    assert quality(x, truth, visible)[0] == pytest.approx(float(psnr(levels[:1, :, 3:, 5:], levels[1:, :, 3:, 5:])))
    hidden = torch.where(visible, truth, -truth)
    assert quality(hidden, truth, visible) == (100.0, pytest.approx(1.0))


def test_alpha_is_enlarged_with_the_picture():
    given = picture(clear=(6, 14), bits=16)
    same = restored_pictures(given, torch.zeros(2, 3, 12, 14))
    assert len(same) == 2 and all(torch.equal(p.alpha, given.alpha) and p.bits == 16 for p in same)
    larger = restored_pictures(given, torch.zeros(1, 3, 48, 56))[0].alpha
    assert larger.shape == (1, 48, 56) and float(larger.min()) >= 0 and float(larger.max()) <= 1
    # further than two pixels from the border
    assert float(larger[0, :16].max()) == 0 and float(larger[0, 32:].min()) == 1
    assert torch.allclose(
        restored_pictures(Picture(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.6)), torch.zeros(1, 1, 8, 8))[0].alpha,
        torch.tensor(0.6),
    )
