"""Known noise in a target: what is measured of it."""

import pytest
import torch
from stopping_worlds import gains, noisy, smooth, unbiased

from degradations.identity import IdentityOperator
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from restoration.stopping.injected_noise import InjectedNoise


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_residual_leak_and_risk_are_their_formulas():
    """In [0, 1] units, where every number is half of that in [-1, 1]."""
    measurement, f = noisy(2), normal((2, 1, 16, 16), 1)
    level, sigma = torch.tensor([0.1, 0.3], dtype=torch.float64), torch.tensor([0.2, 0.2], dtype=torch.float64)
    eps = normal((2, 1, 16, 16))
    noise = InjectedNoise(measurement, eps, level, sigma.square().view(2, 1, 1, 1))
    found = noise.judge(f)
    for k in range(2):
        u, v, s, q = (f[k] + 1) / 2, (measurement.y[k] + 1) / 2, level[k] / 2, sigma[k] / 2
        r, d = (u - v - s * eps[k]).square().mean(), ((u - v) * eps[k]).mean() / s
        assert torch.allclose(found["residual"][k], r) and torch.allclose(found["leak"][k], d)
        assert torch.allclose(found["risk"][k], r + 2 * (q**2 + s**2) * d - (q**2 + s**2))
        # never clipped
        assert torch.allclose(noise.y[k], measurement.y[k] + level[k] * eps[k]) and float(noise.y.abs().max()) > 1


def test_who_memorises_a_share_leaks_that_share():
    """A f = y + h s eps has leak h mean(eps^2); the clean picture has none but chance; E over many draws of the mean
    shrinkage of a linear fit is its leak.
    """
    measurement = noisy(300)
    eps = normal((300, 1, 16, 16))
    level = torch.full((300,), 0.15, dtype=torch.float64)
    noise = InjectedNoise(measurement, eps, level, torch.tensor(0.04))
    share = noise.judge(measurement.y + 0.4 * 0.15 * eps)["leak"]
    assert torch.allclose(share, 0.4 * eps.square().flatten(1).mean(1))
    for j in (5, 40):
        leak = noise.judge(smooth(noise.y, gains(j)))["leak"]
        assert abs(float(leak.mean() - gains(j).mean())) < 4 * float(leak.std()) / 300**0.5


def test_noise_that_depends_on_the_value():
    """sigma twice as large in the right half, where f follows y, and in the left one it does not: mean(sigma^2 d) is
    not mean(sigma^2) mean(d).
    """
    x = noisy(400, sigma=1e-9).truth
    sigma = torch.full((1, 1, 16, 16), 0.1, dtype=torch.float64)
    sigma[..., 8:] = 0.3
    follows = (sigma > 0.2).double() * 0.8
    y = x + sigma * normal((400, 1, 16, 16), 5)
    measurement = Measurement(
        y=y, operator=IdentityOperator((1, 16, 16)), noise=GaussianNoise(sigma=0.3), index=tuple(range(400))
    )
    noise = InjectedNoise(
        measurement, normal((400, 1, 16, 16), 6), torch.full((400,), 0.1, dtype=torch.float64), sigma.square()
    )
    f = follows * noise.y
    error = (f - x).square().flatten(1).mean(1) / 4
    unbiased(noise.judge(f)["risk"], error)
    unbiased(noise.judge(f)["memorised"], ((f - x) * (y - x)).flatten(1).mean(1) / 4)
    uniform = InjectedNoise(measurement, noise.eps, noise.level, sigma.square().mean())
    with pytest.raises(AssertionError):
        unbiased(uniform.judge(f)["risk"], error)


def test_missing_values_hold_no_noise_and_do_not_count():
    mask = torch.ones(16, 16)
    mask[3:9] = 0
    measurement = noisy(2, operator=Mask(mask, channels=1))
    ones = torch.ones(2, dtype=torch.float64)
    noise = InjectedNoise(measurement, normal((2, 1, 16, 16)), 0.1 * ones, torch.tensor(0.04))
    assert torch.equal(noise.y[..., 3:9, :], measurement.y[..., 3:9, :])
    f = normal((2, 1, 16, 16), 2)
    other = torch.where(mask > 0, f, 17.0)
    first, second = noise.judge(measurement.operator(f)), noise.judge(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept = ((measurement.operator(f) - noise.y).square() / 4)[..., mask > 0].mean(-1)[:, 0]
    assert torch.allclose(first["residual"], kept)
