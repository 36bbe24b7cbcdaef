"""The noise level: given, of the noise's own law, or estimated."""

import pytest
import torch
from stopping_worlds import gains, noisy, pictures, smooth

from common.random_streams import RandomStreams
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.identity import IdentityOperator
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.speckle_noise import SpeckleNoise
from restoration.base import Unsupported
from restoration.stopping.morozov import Morozov
from restoration.stopping.noise_level import check_sigma, estimate_sigma, known_sigma, sigma_of_picture

SHAPE = (1, 64, 64)
UNKNOWN = GaussianNoise(sigma=0)
PICTURE = smooth(pictures(1, 64), gains(4, 64))  # without the detail that is taken for noise


@pytest.mark.filterwarnings("ignore:y spans")
@pytest.mark.parametrize("sigma_255", [10, 25, 50])
@pytest.mark.parametrize("kept", [1.0, 0.8, 0.5])
def test_the_estimate_is_near(sigma_255, kept):
    """Within a tenth on a smooth picture, also where pixels are missing."""
    mask = (torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) < kept).float()
    operator = IdentityOperator(SHAPE) if kept == 1 else Mask(mask, channels=1)
    measurement = noisy(2, sigma=sigma_255 / 127.5, x=PICTURE, operator=operator, noise=UNKNOWN)
    assert (127.5 * known_sigma(measurement)).tolist() == pytest.approx([sigma_255] * 2, rel=0.1)
    assert torch.equal(known_sigma(measurement), estimate_sigma(measurement))


@pytest.mark.filterwarnings("ignore:y spans")
def test_an_estimate_belongs_to_its_image():
    measurement = noisy(3, x=PICTURE, noise=UNKNOWN)
    alone = [float(estimate_sigma(measurement.pick([k]))[0]) for k in range(3)]
    assert estimate_sigma(measurement).tolist() == alone and len(set(alone)) == 3


def test_the_order_is_given_law_estimate():
    measurement = noisy(2)
    assert known_sigma(measurement).tolist() == pytest.approx([0.2, 0.2])
    assert known_sigma(measurement, 51.0).tolist() == pytest.approx([0.4, 0.4])
    noise = PoissonNoise(scale=20)
    y = torch.tensor([0.5, -0.5]).view(2, 1, 1, 1).expand(2, *SHAPE)
    counted = Measurement(y=y, operator=IdentityOperator(SHAPE), noise=noise, index=(0, 1))
    assert known_sigma(counted).tolist() == pytest.approx(noise.rms(counted.y).tolist())
    assert known_sigma(counted)[0] > known_sigma(counted)[1]  # more light, more noise


@pytest.mark.parametrize(
    "noise",
    [ClippedGaussianNoise(sigma_255=25), PoissonNoise(scale=12, clip=True), SpeckleNoise(sigma_unit=0.45, clip=True)],
    ids=repr,
)
@pytest.mark.parametrize("grey", [-1.0, -0.8, 0.1, 0.9], ids=["black", "dark", "mid", "bright"])
def test_what_was_clipped_is_not_noise(noise, grey):
    """The level that a criterion is told is that of the residual of the truth, which clipping made smaller; half of
    the noise of a black digit's ground is gone.
    """
    x = torch.where(PICTURE.float() > 0.2, grey, -1.0).expand(3, *SHAPE)
    operator = IdentityOperator(SHAPE)
    y = noise.add(x, [0, 1, 2], RandomStreams(0))
    told = known_sigma(Measurement(y=y, operator=operator, noise=noise, index=(0, 1, 2)))
    true = (y - x).double().square().mean((1, 2, 3)).sqrt()
    assert bool(((told - true).abs() <= 0.05 * true + 0.5 / 127.5).all()), (told, true)
    if grey == -1.0:
        assert bool((told < 0.75 * noise.sigma).all())


def test_morozov_stops_at_the_level_of_clipped_noise():
    """At the truth itself the residual is what was added: by the unclipped sigma the fit would have stopped long before
    it.
    """
    noise = ClippedGaussianNoise(sigma_255=25)
    x = torch.where(PICTURE.float() > 0.2, 0.6, -1.0).expand(2, *SHAPE).clone()
    m = Measurement(
        y=noise.add(x, [0, 1], RandomStreams(0)), operator=IdentityOperator(SHAPE), noise=noise, index=(0, 1)
    )
    for distance, stops in ((0.0, True), (0.08, False)):
        f = x + distance * torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)
        found = Morozov(tau=1.03).watch(m, random=RandomStreams(0), iterations=10).update(1, f, f)
        assert found.stop.tolist() == [stops] * 2


def test_nothing_to_find_is_half_a_grey_level():
    flat = Measurement(y=torch.zeros(1, *SHAPE), operator=IdentityOperator(SHAPE), noise=UNKNOWN, index=(0,))
    assert float(estimate_sigma(flat)) == 0 and float(known_sigma(flat)) == pytest.approx(0.5 / 127.5)


def test_what_cannot_be_estimated_is_refused():
    check_sigma(IdentityOperator(SHAPE), UNKNOWN, None)
    check_sigma(IdentityOperator((1, 4, 4)), UNKNOWN, 25.0)
    with pytest.raises(Unsupported, match="give sigma_255"):
        check_sigma(IdentityOperator((1, 4, 4)), UNKNOWN, None)


def test_it_is_near_scikit_images():
    """The same wavelet and median; ours looks at four times as many windows."""
    pytest.importorskip("pywt", reason="scikit-image's estimate needs PyWavelets")
    from skimage.restoration import estimate_sigma as independent

    for seed in range(3):
        image = PICTURE[0, 0] + 0.2 * torch.randn(
            64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        assert sigma_of_picture(image[None]) == pytest.approx(float(independent(image.numpy())), rel=0.08)


def test_only_known_pixels_are_looked_at():
    """Whatever the others hold; windows shrink until enough are known, and lone pixels say nothing."""
    generator = torch.Generator().manual_seed(0)
    image = 0.2 * torch.randn(3, 40, 40, generator=generator)
    for share, near in ((0.9, 0.1), (0.6, 0.15), (0.2, 0.2)):
        known = (torch.rand(1, 40, 40, generator=generator) < share).float()
        found = sigma_of_picture(image, known)
        assert found == sigma_of_picture(torch.where(known > 0, image, 5.0), known) == pytest.approx(0.2, rel=near)
    lone = torch.zeros(1, 40, 40)
    lone[:, ::2, ::2] = 1
    assert sigma_of_picture(image, lone) == 0


def test_a_digit_on_black_has_no_noise():
    image = -torch.ones(1, 28, 28)
    image[:, 10:18, 12:15] = torch.rand(1, 8, 3, generator=torch.Generator().manual_seed(0))
    assert sigma_of_picture(image) < 1e-12
