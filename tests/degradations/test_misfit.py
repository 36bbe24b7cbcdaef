"""The likelihood of each noise law against the log-densities of SciPy, up to what depends on y alone."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, poisson

from common.random_streams import RandomStreams
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.impulse_noise import ImpulseNoise
from degradations.noise import GaussianNoise, Noise
from degradations.poisson_noise import PoissonNoise, log_counts
from degradations.speckle_noise import SpeckleNoise

#: Intensities u of one column each, with as many measurements v in its rows.
UNIT = np.array([0.004, 0.03, 0.2, 0.5, 0.77, 0.96, 1.0])


def nats(noise: Noise, v: np.ndarray) -> np.ndarray:
    """-log p(v | u) of every v [n] (rows) under every u (columns)."""
    found = np.empty((len(v), len(UNIT)))
    for k, u in enumerate(UNIT):
        y = torch.from_numpy(2 * v - 1).view(-1, 1, 1, 1)
        found[:, k] = noise.misfit(y, torch.full_like(y, 2 * u - 1)).numpy()
    return found


def differences(values: np.ndarray) -> np.ndarray:
    """What is left when a constant of each row, thus of y, is taken away."""
    return values - values[:, 3:4]


def drawn(noise: Noise) -> np.ndarray:
    """40 values v, drawn under all kinds of u."""
    u = torch.linspace(0.02, 1, 40, dtype=torch.float64).view(1, 1, 1, 40)
    return ((noise.add(2 * u - 1, [3], RandomStreams(0)) + 1) / 2).flatten().numpy()


def test_gaussian():
    noise = GaussianNoise(sigma=0.2)
    v = drawn(noise)
    expected = -norm.logpdf(2 * v[:, None] - 1, 2 * UNIT - 1, 0.2)
    np.testing.assert_allclose(differences(nats(noise, v)), differences(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 12, 3000])
def test_poisson(scale: float):
    noise = PoissonNoise(scale=scale)
    v = drawn(noise)
    expected = -poisson.logpmf((scale * v).round()[:, None], scale * UNIT)
    np.testing.assert_allclose(differences(nats(noise, v)), differences(expected), rtol=1e-8, atol=1e-6)


def test_speckle():
    noise = SpeckleNoise(sigma_unit=0.3)
    v = drawn(noise)
    expected = -norm.logpdf(v[:, None], UNIT, 0.3 * UNIT)
    np.testing.assert_allclose(differences(nats(noise, v)), differences(expected), rtol=1e-9, atol=1e-8)


def interval(v: np.ndarray, std: np.ndarray) -> np.ndarray:
    """-log of the probability that a clipped and rounded normal value is the level v, from the nearer tail."""
    level = (255 * v).round()[:, None]
    low = np.where(level == 0, -np.inf, ((level - 0.5) / 255 - UNIT) / std)
    high = np.where(level == 255, np.inf, ((level + 0.5) / 255 - UNIT) / std)
    lower, upper = np.where(low + high > 0, -high, low), np.where(low + high > 0, -low, high)
    return -(norm.logcdf(upper) + np.log1p(-np.exp(norm.logcdf(lower) - norm.logcdf(upper))))


@pytest.mark.parametrize(
    ("noise", "std"),
    [
        (ClippedGaussianNoise(sigma_unit=0.18), np.full_like(UNIT, 0.18)),
        (ClippedGaussianNoise(sigma_255=2), np.full_like(UNIT, 2 / 255)),
        (SpeckleNoise(sigma_unit=0.3, clip=True), 0.3 * UNIT),
    ],
    ids=repr,
)
def test_clipped_normal_laws_are_probabilities_of_levels(noise: Noise, std: np.ndarray):
    v = np.concatenate([drawn(noise), [0, 1, 0.5]])
    np.testing.assert_allclose(nats(noise, v), interval(v, std), rtol=1e-6, atol=1e-7)
    every = np.exp(-nats(noise, np.arange(256) / 255)).sum(0)
    np.testing.assert_allclose(every, 1, rtol=1e-9)


@pytest.mark.parametrize("scale", [5, 12, 25, 255, 300, 4000, 1e5])
def test_clipped_counts_are_probabilities_of_levels(scale: float):
    """Every count is stored as one level: the levels of all counts have together the probability 1."""
    noise = PoissonNoise(scale=scale, clip=True)
    v = np.unique(drawn(noise))
    count = np.arange(0, int(3 * scale + 60), dtype=np.float64)
    level = np.minimum(np.floor(255 * count / scale + 0.5), 255)
    log = poisson.logpmf(count[:, None], scale * UNIT)
    levels = np.unique(level)
    for value in (255 * v).round():
        value = levels[np.abs(levels - value).argmin()]  # half a level may have been rounded down
        expected = -np.logaddexp.reduce(log[level == value], 0)
        likely = expected < 25  # what is farther out is a geometric series, see below
        found = nats(noise, np.array([value / 255]))[0]
        np.testing.assert_allclose(found[likely], expected[likely], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.2)


def test_the_tail_of_counts_is_joined_without_a_step():
    """Where the difference of distribution functions ends, in value and in gradient."""
    mean = torch.linspace(30, 400, 2001, dtype=torch.float64, requires_grad=True)
    for least, most in ((399.0, torch.inf), (100.0, 140.0), (0.0, 20.0)):
        found = log_counts(torch.full_like(mean, least), torch.full_like(mean, most), mean)
        (gradient,) = torch.autograd.grad(found.sum(), mean)
        moved = found.detach().diff() / mean.detach().diff()
        between = (gradient[1:] + gradient[:-1]) / 2
        assert float((moved - between).abs().max()) < 0.08


@pytest.mark.parametrize("kind", ["salt_and_pepper", "salt", "pepper", "uniform"])
def test_impulses_are_a_mixture(kind: str):
    noise = ImpulseNoise(probability=0.3, kind=kind)
    v = np.array([0.0, 10, 51, 128, 254, 255]) / 255
    lost = {
        "salt_and_pepper": [0.5, 0, 0, 0, 0, 0.5],
        "salt": [0, 0, 0, 0, 0, 1],
        "pepper": [1, 0, 0, 0, 0, 0],
        "uniform": [0.5 / 255, 1 / 255, 1 / 255, 1 / 255, 1 / 255, 0.5 / 255],
    }[kind]
    kept = -interval(v, np.full_like(UNIT, 1 / 510))
    with np.errstate(divide="ignore"):
        expected = -np.logaddexp(np.log(0.7) + kept, np.log(0.3 * np.array(lost))[:, None])
    np.testing.assert_allclose(nats(noise, v), expected, rtol=1e-6, atol=1e-9)


def test_a_lost_value_says_nothing_about_the_image():
    noise = ImpulseNoise(probability=0.3)
    y = torch.tensor([1.0, 0.2], dtype=torch.float64).view(1, 1, 1, 2)
    clean = torch.full_like(y, -0.4).requires_grad_()
    (gradient,) = torch.autograd.grad(noise.misfit(y, clean).sum(), clean)
    assert gradient[..., 0] == 0 and gradient[..., 1] < 0
