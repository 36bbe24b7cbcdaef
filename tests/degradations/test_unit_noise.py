"""Shot, impulse, speckle and clipped Gaussian noise: their laws by moments, their keys, their nominal levels, the
published noisy F16.
"""

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import poisson

from common.image_range import to_float, to_uint8
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.impulse_noise import ImpulseNoise
from degradations.measurement import measure
from degradations.noise import GaussianNoise, Noise
from degradations.poisson_noise import PoissonNoise, counts
from degradations.random_mask import RandomMask
from degradations.speckle_noise import SpeckleNoise

RANDOM = RandomStreams(0)
NOISES = {
    "poisson": PoissonNoise(scale=12),
    "poisson_clipped": PoissonNoise(scale=12, clip=True),
    "impulse": ImpulseNoise(probability=0.3),
    "impulse_uniform": ImpulseNoise(probability=0.5, kind="uniform"),
    "speckle": SpeckleNoise(sigma_unit=0.35),
    "speckle_clipped": SpeckleNoise(sigma_unit=0.35, clip=True),
    "gaussian_clipped": ClippedGaussianNoise(sigma_unit=0.18),
}
each = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


def _constant(unit: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, 2 * unit - 1, dtype=torch.float64)


def _unit(noise: Noise, unit: float) -> torch.Tensor:
    """v for 45 000 values of one grey level: the bounds of the tests are five standard errors of their number."""
    return (noise.add(_constant(unit, 2, 1, 150, 150), [3, 4], RANDOM) + 1) / 2


@pytest.mark.parametrize("unit", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("scale", [0.5, 5.0, 25.0, 3000.0])
def test_poisson_has_the_mean_the_variance_and_the_third_moment_of_counts(scale: float, unit: float):
    v = _unit(PoissonNoise(scale=scale), unit)
    k, n = v * scale, v.numel()
    assert (k - k.round()).abs().max() < 1e-9 * max(1, scale)
    mean = scale * unit
    assert float(k.mean()) == pytest.approx(mean, abs=5 * (mean / n) ** 0.5)
    assert float((k - mean).square().mean()) == pytest.approx(mean, abs=5 * ((mean + 2 * mean**2) / n) ** 0.5)
    assert float((k - mean).pow(3).mean()) == pytest.approx(
        mean, abs=5 * ((15 * mean**3 + 25 * mean**2 + mean) / n) ** 0.5
    )


def test_poisson_inverts_the_distribution_function():
    """Against SciPy's own quantile function, and by the definition: P(K <= k - 1) <= u < P(K <= k)."""
    uniform = np.concatenate([np.random.default_rng(0).random(1000), [1e-12, 1 - 1e-12]])
    for mean in (1e-9, 0.01, 0.7, 5.0, 25.0, 255.0, 1e4):
        found = counts(uniform, np.full_like(uniform, mean))
        assert np.isfinite(counts(np.array([1 - 2**-53]), np.array([mean]))).all()  # the largest number that is drawn
        assert (found == poisson.ppf(uniform, mean).clip(0)).mean() > 0.999
        assert (poisson.cdf(found, mean) > uniform).all() and (poisson.cdf(found - 1, mean) <= uniform).all()


def test_poisson_does_not_follow_rounding_errors():
    """Another device, or another batch size, may compute A x with other rounding: a handful of counts change, the
    others do not move.
    """
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = PoissonNoise(scale=25)
    changed = noise.add(x, [0], RANDOM) != noise.add(x * (1 + 1e-6), [0], RANDOM)
    assert changed.float().mean() < 1e-3


@pytest.mark.parametrize("p", [0.0, 0.3, 0.7, 1.0])
def test_impulses_have_their_share_and_their_values(p: float):
    n = 2 * 300 * 300
    v = _unit(ImpulseNoise(probability=p), 0.4)
    for value, share in ((0.0, p / 2), (1.0, p / 2), (0.4, 1 - p)):
        assert float((v == value if value != 0.4 else (v - 0.4).abs() < 1e-12).double().mean()) == pytest.approx(
            share, abs=4 * 0.5 / n**0.5
        )
    for kind, value in (("salt", 1.0), ("pepper", 0.0)):
        assert float((_unit(ImpulseNoise(probability=p, kind=kind), 0.4) == value).double().mean()) == pytest.approx(
            p, abs=4 * 0.5 / n**0.5
        )
    v = _unit(ImpulseNoise(probability=p, kind="uniform"), 0.4)
    lost = (v - 0.4).abs() > 1e-12
    assert float(lost.double().mean()) == pytest.approx(p, abs=4 * 0.5 / n**0.5)
    if p > 0:
        assert float(v[lost].mean()) == pytest.approx(0.5, abs=0.005) and float(v[lost].var()) == pytest.approx(
            1 / 12, abs=0.001
        )


def test_impulses_fall_on_channels_independently():
    v = (ImpulseNoise(probability=0.3).add(_constant(0.4, 1, 3, 300, 300), [0], RANDOM) + 1) / 2
    lost = ((v - 0.4).abs() > 1e-12)[0].double()
    assert float((lost[0] * lost[1]).mean()) == pytest.approx(0.09, abs=0.003)


@pytest.mark.parametrize("unit", [0.0, 0.5, 1.0])
def test_speckle_is_proportional_to_the_light(unit: float):
    n = 2 * 300 * 300
    v = _unit(SpeckleNoise(sigma_unit=0.2), unit)
    assert float(v.mean()) == pytest.approx(unit, abs=5 * 0.2 / n**0.5)
    assert float(v.std()) == pytest.approx(0.2 * unit, rel=0.005)


@pytest.mark.parametrize(
    "noise",
    [
        PoissonNoise(scale=200),
        ImpulseNoise(probability=0.3),
        ImpulseNoise(probability=0.4, kind="uniform"),
        SpeckleNoise(sigma_unit=0.2),
        ClippedGaussianNoise(sigma_unit=0.1),
    ],
)
def test_nominal_sigma_is_the_rms_error_of_mid_grey(noise: Noise):
    y = noise.add(_constant(0.5, 2, 1, 300, 300), [0, 1], RANDOM)
    assert float(y.square().mean().sqrt()) == pytest.approx(noise.sigma, rel=0.01)


def test_clipped_values_are_those_of_a_picture_file():
    for noise in (
        PoissonNoise(scale=5, clip=True),
        SpeckleNoise(sigma_unit=0.45, clip=True),
        ClippedGaussianNoise(sigma_unit=0.26),
    ):
        y = noise.add(torch.rand(2, 3, 32, 32) * 2 - 1, [0, 1], RANDOM)
        assert y.dtype == torch.float32 and torch.equal(to_float(to_uint8(y)), y) and y.max() == 1 and y.min() == -1
    free, kept = PoissonNoise(scale=5), PoissonNoise(scale=5, clip=True)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(to_float(to_uint8(free.add(x, [2], RANDOM))), kept.add(x, [2], RANDOM))
    gaussian = GaussianNoise(sigma_255=30).add(x, [2], RANDOM)
    assert (
        float((ClippedGaussianNoise(sigma_255=30).add(x, [2], RANDOM) - gaussian.clamp(-1, 1)).abs().max())
        <= 1 / 255 + 1e-6
    )


@each
@pytest.mark.parametrize(
    "degradation", [Identity(), RandomMask(removed=0.5), AveragePool(factor=2)], ids=["identity", "mask", "pool"]
)
def test_measurement_is_a_function_of_seed_and_index(noise: Noise, degradation):
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    index = [8, 3, 5, 0]
    state = torch.get_rng_state()
    together = measure(x, degradation=degradation, noise=noise, index=index, random=RandomStreams(7))
    assert torch.equal(state, torch.get_rng_state())
    order = [3, 0, 1, 2]
    permuted = measure(
        x[order], degradation=degradation, noise=noise, index=[index[i] for i in order], random=RandomStreams(7)
    ).y
    assert torch.equal(permuted, together.y[order])
    for row, i in enumerate(index):
        alone = measure(x[row : row + 1], degradation=degradation, noise=noise, index=[i], random=RandomStreams(7)).y
        assert torch.equal(alone[0], together.y[row])
    other = measure(x, degradation=degradation, noise=noise, index=index, random=RandomStreams(8)).y
    assert (other - together.y).abs().max() > 0.1
    assert together.sigma == noise.sigma and together.y.dtype == x.dtype
    mask = together.operator.mask
    if mask is not None:
        assert (together.y * (1 - mask) == 0).all()


@pytest.mark.parametrize(
    "noise",
    [PoissonNoise(scale=s) for s in (1, 5, 25, 1000)] + [SpeckleNoise(sigma_unit=0.45), *NOISES.values()],
    ids=repr,
)
@pytest.mark.parametrize("degradation", [Identity(), Grey(weights=[0.1, 0.1, 0.1])], ids=["identity", "narrow"])
def test_bright_pictures_are_not_warned_about(noise: Noise, degradation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(torch.ones(2, 3, 256, 256), degradation=degradation, noise=noise, index=[0, 1], random=RANDOM)


def test_darker_than_black_gives_no_light():
    y = PoissonNoise(scale=5).add(torch.full((1, 1, 4, 4), -1.5), [0], RANDOM)
    assert (y == -1).all()


@pytest.mark.parametrize(
    ("noise", "options", "word"),
    [
        (PoissonNoise, {"scale": 0}, "scale"),
        (PoissonNoise, {"scale": math.nan}, "scale"),
        (ImpulseNoise, {"probability": 1.1}, "probability"),
        (ImpulseNoise, {"probability": 0.1, "kind": "sugar"}, "kind"),
        (SpeckleNoise, {"sigma_unit": -1}, "sigma_unit"),
        (ClippedGaussianNoise, {}, "exactly one"),
        (ClippedGaussianNoise, {"sigma": 1, "sigma_255": 3}, "exactly one"),
    ],
)
def test_refuses(noise: type, options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        noise(**options)


PUBLISHED = [
    (ClippedGaussianNoise(sigma_unit=0.12), 29.5),
    (ClippedGaussianNoise(sigma_unit=0.18), 41.8),
    (ClippedGaussianNoise(sigma_unit=0.26), 56.5),
    (PoissonNoise(scale=25, clip=True), 38.3),
    (PoissonNoise(scale=12, clip=True), 51.5),
    (PoissonNoise(scale=5, clip=True), 72.8),
    (ImpulseNoise(probability=0.3, clip=True), 79.7),
    (ImpulseNoise(probability=0.5, clip=True), 102.9),
    (ImpulseNoise(probability=0.7, clip=True), 121.5),
    (SpeckleNoise(sigma_unit=0.20, clip=True), 34.2),
    (SpeckleNoise(sigma_unit=0.35, clip=True), 54.4),
    (SpeckleNoise(sigma_unit=0.45, clip=True), 66.3),
]


@pytest.mark.parametrize(("noise", "published"), PUBLISHED, ids=lambda v: repr(v))
def test_input_error_of_f16_is_the_published_one(noise: Noise, published: float):
    """Root mean squared error on the scale 0..255 of the noisy F16 of the ES-WMV data."""
    path = Path(os.environ.get("DATA_DIR", "")) / "restoration" / "dip" / "denoising" / "F16_GT.png"
    if "DATA_DIR" not in os.environ or not path.exists():
        pytest.skip("needs DATA_DIR with restoration/dip/denoising/F16_GT.png")
    with Image.open(path) as opened:
        x = to_float(torch.from_numpy(np.array(opened.convert("RGB")).transpose(2, 0, 1).copy()))[None]
    y = measure(x, degradation=Identity(), noise=noise, index=[0], random=RANDOM).y
    assert 127.5 * float((y - x).square().mean().sqrt()) == pytest.approx(published, rel=0.02)
