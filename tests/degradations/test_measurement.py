"""Measurement and noise: y = A x + n, with n of the declared level, keyed by (seed, image index) alone."""

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask

RANDOM = RandomStreams(0)


def _images(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("unit", "value", "std"), [("sigma", 0.1, 0.1), ("sigma_unit", 0.05, 0.1), ("sigma_255", 12.75, 0.1)]
)
@pytest.mark.parametrize("degradation", [Identity(), CircularGaussianBlur(std=1.0), AveragePool(factor=2)])
def test_noise_has_the_declared_level(degradation, unit: str, value: float, std: float):
    """Over a million values, within 1 %: in [-1, 1] units, whatever unit the option had; white, and independent of the
    image.
    """
    x = _images(90 if isinstance(degradation, AveragePool) else 23, 3, 128, 128)
    measurement = measure(
        x, degradation=degradation, noise=GaussianNoise(**{unit: value}), index=range(len(x)), random=RANDOM
    )
    noise = (measurement.y - measurement.operator(x)).double()
    assert noise.numel() > 1_000_000
    assert measurement.sigma == pytest.approx(std) and float(noise.std()) == pytest.approx(std, rel=0.01)
    assert abs(float(noise.mean())) < 4 * std / noise.numel() ** 0.5
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / std**2
    assert abs(float(neighbours)) < 5 / noise.numel() ** 0.5


def test_a_missing_pixel_has_no_noise_and_the_others_have_all():
    x = _images(40, 3, 64, 64)
    m = measure(x, degradation=RandomMask(removed=0.7), noise=GaussianNoise(sigma=0.2), index=range(40), random=RANDOM)
    mask = m.operator.mask.expand_as(m.y).bool()
    assert (m.y[~mask] == 0).all()
    assert float((m.y - x)[mask].std()) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("degradation", [Identity(), BoxMask(), RandomMask(removed=0.5), CircularGaussianBlur(std=1.0)])
def test_measurement_is_a_function_of_seed_and_index(degradation):
    x, index, noise = _images(5, 1, 28, 28), [8, 3, 5, 0, 9], GaussianNoise(sigma=0.1)
    together = measure(x, degradation=degradation, noise=noise, index=index, random=RandomStreams(7)).y
    order = [3, 0, 4, 1, 2]
    permuted = measure(
        x[order], degradation=degradation, noise=noise, index=[index[i] for i in order], random=RandomStreams(7)
    ).y
    torch.testing.assert_close(permuted, together[order], rtol=0, atol=1e-6)
    for row, i in enumerate(index):
        alone = measure(x[row : row + 1], degradation=degradation, noise=noise, index=[i], random=RandomStreams(7)).y
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)
    other = measure(x, degradation=degradation, noise=noise, index=index, random=RandomStreams(8)).y
    assert (other - together).abs().max() > 0.1
    torch.manual_seed(0)
    state = torch.get_rng_state()
    measure(x, degradation=degradation, noise=noise, index=index, random=RandomStreams(7))
    assert torch.equal(state, torch.get_rng_state())


def test_no_noise():
    x = _images(2, 1, 8, 8)
    m = measure(x, degradation=Identity(), noise=GaussianNoise(sigma=0), index=[0, 1], random=RANDOM)
    assert (
        torch.equal(m.y, x) and m.truth is x and m.without_truth().truth is None and torch.equal(m.without_truth().y, x)
    )


@pytest.mark.parametrize("degradation", [BoxMask(size=4), Identity()], ids=["own masks", "one operator"])
def test_repeated_for_several_samples(degradation):
    """Image-major: the row of an image as often as asked, with its own mask, index and truth."""
    x = _images(3, 2, 8, 8)
    m = measure(x, degradation=degradation, noise=GaussianNoise(sigma=0.1), index=[4, 9, 2], random=RANDOM)
    twice = m.repeat(2)
    assert twice.index == (4, 4, 9, 9, 2, 2) and m.repeat(1) is m
    for row in range(6):
        alone, image = twice.pick([row]), m.pick([row // 2])
        assert alone.index == image.index
        assert torch.equal(alone.y, image.y) and torch.equal(alone.truth, image.truth)
        assert torch.equal(alone.operator(alone.truth), image.operator(image.truth))
    assert m.without_truth().repeat(2).truth is None
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        m.repeat(0)


def test_refuses_what_does_not_fit_and_warns_about_ranges():
    operator, noise = Identity().operator_for((1, 8, 8), [0], RANDOM), GaussianNoise(sigma=0.1)
    y = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match="y must have shape"):
        Measurement(y=y[..., 1:], operator=operator, noise=noise, index=(0, 1))
    with pytest.raises(ValueError, match="index must have one entry"):
        Measurement(y=y, operator=operator, noise=noise, index=(0,))
    with pytest.raises(ValueError, match="truth must have shape"):
        Measurement(y=y, operator=operator, noise=noise, index=(0, 1), truth=y[:1])
    with pytest.raises(ValueError, match="not finite"):
        Measurement(y=y / 0, operator=operator, noise=noise, index=(0, 1))
    with pytest.warns(UserWarning, match="6 sigma"):
        Measurement(y=y + 200, operator=operator, noise=noise, index=(0, 1))


@pytest.mark.parametrize("options", [{}, {"sigma": 0.1, "sigma_255": 5}, {"sigma": -1}, {"sigma_unit": float("nan")}])
def test_noise_refuses(options: dict):
    with pytest.raises(ValueError, match="sigma"):
        GaussianNoise(**options)
