"""Plug-and-play: its fixed point on Gaussian data, its levels, what it does without noise, and how it begins."""

import math
from itertools import pairwise

import pytest
import torch
from posterior_worlds import COVARIANCE, MEAN, PIXELS, SHAPE, WORLDS, gaussian_prior

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.circular_blur import CircularGaussianBlur
from degradations.composition import Composition
from degradations.identity import Identity
from degradations.linear import as_matrix
from degradations.mask import Mask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from diffusion.closed_form import GaussianDenoiser
from restoration.first_guess import fill_holes, first_guess
from restoration.plug_and_play import SETTINGS, PlugAndPlay

RANDOM = RandomStreams(0)


@pytest.mark.parametrize("weight", [1.0, 0.23])
@pytest.mark.parametrize("level_255", [90.0, 120.0])
@pytest.mark.parametrize("name", [n for n in WORLDS if n != "identity"])
def test_the_fixed_point_on_gaussian_data(name, weight, level_255):
    """At one level s the steps minimise |A z - y|^2 / (2 sigma^2) + weight (z - m)' (S + s^2)^-1 (z - m) / 2 over z:
    D is the proximal step of a quadratic form, whose Moreau envelope that is; and x = D(z).
    """
    measurement, level = WORLDS[name]().measurement, 2 * level_255 / 255
    method = PlugAndPlay(
        prior=gaussian_prior(),
        steps=100,
        weight=weight,
        first_sigma_255=level_255,
        last_sigma_255=level_255,
        turns=False,
        clip=False,
    )
    assert measurement.sigma <= level
    a, identity = as_matrix(measurement.operator), torch.eye(PIXELS, dtype=torch.float64)
    precision = weight * torch.linalg.inv(COVARIANCE + level**2 * identity)
    mean = torch.full((PIXELS,), MEAN, dtype=torch.float64)
    normal = a.T @ a / measurement.sigma**2 + precision
    z = torch.linalg.solve(normal, a.T @ measurement.y.flatten() / measurement.sigma**2 + precision @ mean)
    x = mean + COVARIANCE @ torch.linalg.solve(COVARIANCE + level**2 * identity, z - mean)
    found = method.restore(measurement, random=RANDOM).samples.flatten()
    torch.testing.assert_close(found, x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [n for n in WORLDS if n != "identity"])
def test_falling_levels_end_near_the_posterior_mean(name):
    """For weight 1 and a last level below all spread of the data the fixed point is the posterior's mean."""
    world = WORLDS[name]()
    method = PlugAndPlay(prior=gaussian_prior(), steps=200, weight=1.0, first_sigma_255=120, turns=False, clip=False)
    method.last_sigma_255 = 127.5 * max(world.measurement.sigma, 0.05)
    found = method.restore(world.measurement, random=RANDOM).samples.flatten()
    assert float((found - world.mean).abs().max()) < 0.1 * float(world.covariance.diagonal().max().sqrt())


def test_noise_alone_is_one_call_and_no_noise_none():
    """The exact denoiser of Gaussian data gives the posterior's mean at once."""
    world = WORLDS["identity"]()
    found = PlugAndPlay(prior=gaussian_prior(), clip=False).restore(world.measurement, random=RANDOM)
    torch.testing.assert_close(found.samples.flatten(), world.mean)
    assert found.cost.nfe == 1
    x = torch.rand(2, *SHAPE) - 0.5
    clean = measure(x, degradation=Identity(), noise=GaussianNoise(sigma=0), index=[0, 1], random=RANDOM)
    found = PlugAndPlay(prior=gaussian_prior()).restore(clean, random=RANDOM)
    assert torch.equal(found.samples[:, 0], x) and found.cost.nfe == 0


def test_noise_beyond_what_the_prior_knows_is_shown_to_it_as_the_nearest_level_and_said():
    world, prior = WORLDS["identity"](), gaussian_prior()
    level = world.measurement.sigma
    assert not PlugAndPlay(prior=prior).restore(world.measurement, random=RANDOM).notes
    prior.sigma_max = level / 2
    found = PlugAndPlay(prior=prior, clip=False).restore(world.measurement, random=RANDOM)
    nearest = prior.predict(world.measurement.y, torch.tensor([level / 2], dtype=torch.float64)).x0
    torch.testing.assert_close(found.samples[:, 0], nearest)
    assert f"knows up to {63.75 * level:.4g}" in found.notes[0] and "some noise stays" in found.notes[0]


def test_levels():
    """Evenly spaced in their logarithms, from the first to the noise of y or to the last where that is more, within
    what the denoiser knows.
    """
    prior = gaussian_prior()
    method = PlugAndPlay(prior=prior)
    mask, pool = Mask(torch.eye(2), channels=1), AveragePool(factor=2).bind({}, (1, 4, 4))
    blur = CircularGaussianBlur(std=0.6).bind({}, (1, 16, 16))
    composed = Composition(parts=[CircularGaussianBlur(std=0.6), RandomMask(removed=0.5)])
    holes = composed.operator_for((1, 16, 16), [0], RANDOM)
    for operator, kind in ((mask, "holes"), (pool, "super_resolution"), (blur, "blur"), (holes, "holes")):
        steps, first, last = SETTINGS[kind]
        levels = method.levels(operator, 0.03)
        assert len(levels) == steps and levels[0] == pytest.approx(2 * first / 255)
        assert levels[-1] == pytest.approx(max(0.03, 2 * last / 255))
        ratios = [b / a for a, b in pairwise(levels)]
        assert max(ratios) - min(ratios) < 1e-9 and max(ratios) < 1
    assert method.levels(mask, 0.9) == pytest.approx([0.9] * SETTINGS["holes"][0])
    prior.sigma_min, prior.sigma_max = 0.05, 0.1
    assert method.levels(blur, 0.0)[-1] == 0.05 and method.levels(blur, 0.0)[0] == 0.1
    assert method.levels(blur, 0.9) == [0.1] * SETTINGS["blur"][0]


def smooth(side: int, channels: int = 1) -> torch.Tensor:
    i = torch.arange(side, dtype=torch.float64) / side
    return (0.6 * torch.sin(4 * i)[:, None] * torch.cos(3 * i)).expand(1, channels, -1, -1)


def test_without_noise_the_known_pixels_stay():
    x = smooth(12)
    measurement = measure(
        x, degradation=RandomMask(removed=0.6), noise=GaussianNoise(sigma=0), index=[0], random=RANDOM
    )
    prior = GaussianDenoiser(mean=0.0, covariance=0.3, data_shape=(1, 12, 12))
    found = PlugAndPlay(prior=prior, steps=6).restore(measurement, random=RANDOM).samples[:, 0]
    known = measurement.operator.mask.expand_as(x) > 0
    assert float((found - x)[known].abs().max()) < 1 / 255


def test_a_picture_that_is_not_square_is_turned_only_where_the_prior_takes_it():
    prior = GaussianDenoiser(mean=0.0, covariance=0.3, data_shape=(1, 16, 20))
    blur = CircularGaussianBlur(std=1.0)
    y = torch.rand(1, 1, 16, 20) - 0.5
    measurement = Measurement(y=y, operator=blur.bind({}, (1, 16, 20)), noise=GaussianNoise(sigma=0.05), index=(0,))
    assert not PlugAndPlay(prior=prior).turns
    assert PlugAndPlay(prior=prior, steps=3).restore(measurement, random=RANDOM).samples.shape == (1, 1, 1, 16, 20)


def test_holes_are_filled_from_around_them():
    """Known pixels stay to the bit, a constant stays one, a smooth picture is found again, each image by itself."""
    x = smooth(33)
    known = RandomMask(removed=0.8).operator_for((1, 33, 33), [0], RANDOM).mask
    filled = fill_holes(torch.where(known > 0, x, math.nan), known)
    assert torch.equal(filled[known > 0], x[known > 0])
    assert float((filled - x).abs().max()) < 0.45 and float((filled - x).square().mean().sqrt()) < 0.1
    torch.testing.assert_close(fill_holes(0.4 * known, known), torch.full_like(known, 0.4))
    both = fill_holes(torch.cat([x, -x]), torch.cat([known, torch.ones_like(known)]))
    torch.testing.assert_close(both[:1], filled)
    assert not fill_holes(x, torch.zeros_like(known)).any()


def test_the_first_guess_has_the_size_and_colours_of_the_picture():
    x = smooth(16, 3)
    for part in (AveragePool(factor=2), RandomMask(removed=0.3)):
        operator = Composition(parts=[part, RandomMask(removed=0.5)]).operator_for((3, 16, 16), [0], RANDOM)
        found = first_guess(operator, operator(x))
        assert found.shape == x.shape and float((found - x).square().mean().sqrt()) < 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"weight": 0.0},
        {"last_sigma_255": -1.0},
        {"weight": math.inf},
        {"first_sigma_255": 2.0, "last_sigma_255": 50.0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PlugAndPlay(prior=gaussian_prior(), **options)
