"""EDM: its formulas, its distribution of levels, and Gaussian data, for which the best network and the least loss are
known.
"""

import math
import warnings

import pytest
import torch
from torch import nn

from common.build import build
from common.errors import UserError
from diffusion.closed_form import GaussianDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.levels import SPACINGS, karras_sigmas, spaced_sigmas
from diffusion.losses import denoising_loss
from diffusion.samplers.heun import Heun
from diffusion.weighting.edm import EDM
from diffusion.weighting.min_snr import MinSNR
from diffusion.weighting.simple import Simple
from diffusion.weighting.snr_plus_one import SNRPlusOne
from networks.unet import UNet
from tests.diffusion.tools import normal

SHAPE = (1, 2, 4)


class BestForGaussian(nn.Module):
    """F of the exact denoiser for pixels N(mean, std^2): linear in its input, F = gain(sigma) y + shift(sigma)."""

    def __init__(self, sigma_data, mean, std):
        super().__init__()
        self.s, self.mean, self.std = sigma_data, mean, std

    def forward(self, y, time, label=None):
        sigma = torch.exp(time.double() / 100).view(-1, 1, 1, 1)
        root = (sigma**2 + self.s**2).sqrt()
        x = y * root
        x0 = self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)
        return ((x0 - self.s**2 / root**2 * x) / (sigma * self.s / root)).to(y.dtype)


def denoiser(network=None, *, sigma_data=0.5, **levels):
    return EDMDenoiser(
        network=network or BestForGaussian(0.5, 0.0, 0.5),
        levels=LogNormal(**levels),
        sigma_data=sigma_data,
        data_shape=SHAPE,
    )


def test_it_is_the_exact_denoiser():
    d = EDMDenoiser(network=BestForGaussian(0.5, 0.2, 0.3), levels=LogNormal(), sigma_data=0.5, data_shape=SHAPE)
    exact = GaussianDenoiser(mean=0.2, covariance=0.09, data_shape=SHAPE)
    sigma = torch.tensor([0.002, 0.05, 0.5, 3.0, 80.0], dtype=torch.float64)
    x = 0.2 + normal(5, *SHAPE) * (0.09 + sigma.view(-1, 1, 1, 1) ** 2).sqrt()
    found, expected = d.predict(x, sigma), exact.predict(x, sigma)
    # The network is asked in float32: 6e-8 of its output, times c_out < 0.5 in x0 and sigma_data c_in < 1 in eps; of
    # its time, 1e-7 of 100 log sigma.
    torch.testing.assert_close(found.x0, expected.x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.eps, expected.eps, rtol=0, atol=1e-5)
    level = sigma.view(-1, 1, 1, 1)
    torch.testing.assert_close(found.x0 + level * found.eps, x, rtol=1e-12, atol=1e-12)
    assert d.predict(x.float(), sigma.float()).x0.dtype == torch.float32


def test_the_papers_scalings():
    """Table 1 of Karras et al., read off a network that remembers its question and answers with ones."""

    class Recorder(nn.Module):
        def forward(self, y, time, label=None):
            self.y, self.time = y, time
            return torch.ones_like(y)

    network, s = Recorder(), 0.6
    d, sigma = denoiser(network, sigma_data=s), torch.tensor([0.01, 1.0, 40.0], dtype=torch.float64)
    x = normal(3, *SHAPE)
    p, level = d.predict(x, sigma), sigma.view(-1, 1, 1, 1)
    c_skip, c_out = s**2 / (level**2 + s**2), level * s / (level**2 + s**2).sqrt()
    torch.testing.assert_close(p.x0, c_skip * x + c_out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network.y, (x / (level**2 + s**2).sqrt()).float())
    torch.testing.assert_close(network.time, (100 * sigma.log()).float())


@pytest.mark.parametrize("quantiles", [torch.tensor([0.001, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)])
def test_the_best_loss_for_gaussian_data_is_1_at_every_level(quantiles):
    """With pixels N(0, s^2), s = sigma_data, the best F is 0 and E F*^2 = 1: the weighted loss is uniform over sigma
    (what the weighting is made for).
    """
    d, count, s = denoiser(), 4000, 0.5
    x0, noise = s * normal(count, *SHAPE), normal(count, *SHAPE, seed=1)
    for u in quantiles:
        sigma = d.training_time(u.expand(count))
        loss = denoising_loss(d, x0, noise, sigma, weighting=EDM(sigma_data=s))
        assert float(loss.mean()) == pytest.approx(1, abs=5 * float(loss.std()) / count**0.5)
        asked = d.training_pair(x0, noise, sigma)
        assert float(asked.input.var()) == pytest.approx(1, abs=0.05) and float(asked.target.var()) == pytest.approx(
            1, abs=0.05
        )
        assert abs(float((asked.input * asked.target).mean())) < 0.05  # nothing linear is left to be learned


def test_the_least_loss_of_other_gaussian_data():
    """lambda(sigma) Var[x0 | x] = (sigma^2 + s^2) / (sigma s)^2 * std^2 sigma^2 / (std^2 + sigma^2); a worse gain costs
    more.
    """
    count, std, s = 20000, 0.3, 0.5
    x0, noise = std * normal(count, *SHAPE), normal(count, *SHAPE, seed=1)
    best, worse = (denoiser(BestForGaussian(s, 0.0, width)) for width in (std, 0.33))
    for sigma in (0.01, 0.3, 5.0):
        time = torch.full((count,), sigma, dtype=torch.float64)
        ask = lambda d: denoising_loss(d, x0, noise, time, weighting=EDM(sigma_data=s))  # noqa: E731, B023
        found, expected = ask(best), (sigma**2 + s**2) / (sigma * s) ** 2 * std**2 * sigma**2 / (std**2 + sigma**2)
        assert float(found.mean()) == pytest.approx(expected, abs=5 * float(found.std()) / count**0.5)
        assert float((ask(worse) - found).mean()) > 0


@pytest.mark.parametrize("weighting", [Simple(), MinSNR(), EDM(), SNRPlusOne()])
def test_the_loss_is_the_weighted_error_of_x0(weighting):
    """Through F or through x0, the same number: MSE_F w_F = MSE_x0 w_x0."""
    d, w = denoiser(BestForGaussian(0.5, 0.2, 0.3)), weighting
    sigma = torch.tensor([0.01, 0.4, 2.0, 30.0], dtype=torch.float64)
    x0, noise = normal(4, *SHAPE), normal(4, *SHAPE, seed=1)
    through_x0 = (d.predict(x0 + sigma.view(-1, 1, 1, 1) * noise, sigma).x0 - x0).square().mean((1, 2, 3)) * w(
        sigma**-2, "x0"
    )
    torch.testing.assert_close(denoising_loss(d, x0, noise, sigma, weighting=w), through_x0, rtol=1e-4, atol=1e-8)


def test_levels_are_log_normal():
    levels = LogNormal()
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    log = levels.quantile(u).log()
    assert float(log.mean()) == pytest.approx(-1.2, abs=0.02) and float(log.std()) == pytest.approx(1.2, abs=0.01)
    ends = levels.quantile(torch.tensor([0.0, 0.5, 1 - 2**-24, 1.0], dtype=torch.float64))
    assert float(ends[0]) == pytest.approx(0.002, rel=1e-6) and float(ends[1]) == pytest.approx(
        math.exp(-1.2), rel=1e-4
    )
    assert (
        20 < float(ends[2]) <= 80
        and float(ends[3]) == pytest.approx(80, rel=1e-6)
        and bool(levels.quantile(u).isfinite().all())
    )
    narrow = LogNormal(sigma_min=0.2, sigma_max=0.4).quantile(u)
    assert 0.2 <= float(narrow.min()) <= float(narrow.max()) <= 0.4


def test_bins_are_equally_frequent():
    d, u = denoiser(), (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert d.bins(5) == ["q000-199", "q200-399", "q400-599", "q600-799", "q800-999"] and d.bins(3)[-1] == "q666-999"
    assert torch.bincount(d.bin_of(d.training_time(u), 5)).tolist() == [200] * 5
    assert d.bin_of(d.training_time(torch.zeros(1)), 1).tolist() == [0]


def test_spacings():
    d = denoiser()
    assert float(d.level_at(torch.tensor([0.0]))) == pytest.approx(0.002) and float(
        d.level_at(torch.tensor([999.0]))
    ) == pytest.approx(80)
    torch.testing.assert_close(spaced_sigmas(d, 18, "karras"), karras_sigmas(18, 0.002, 80))
    torch.testing.assert_close(spaced_sigmas(d, 1000, "linspace"), karras_sigmas(1000, 0.002, 80), rtol=1e-9, atol=0)
    for spacing in SPACINGS:
        assert bool((spaced_sigmas(d, 18, spacing).diff() < 0).all())
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        d.level_at(torch.tensor([1000.0]))


def test_sampling_ends_on_the_data():
    """Heun from pure noise, with the levels of the paper: as with the exact denoiser, and at the standard deviation of
    the data with many levels.
    """
    d, exact = denoiser(BestForGaussian(0.5, 0.0, 0.3)), GaussianDenoiser(mean=0.0, covariance=0.09, data_shape=SHAPE)
    x, few = 80 * normal(3000, *SHAPE), spaced_sigmas(d, 18, "karras")
    torch.testing.assert_close(
        Heun().sample(d, x, few, clip=False), Heun().sample(exact, x, few, clip=False), rtol=0, atol=1e-4
    )
    out = Heun().sample(d, x, spaced_sigmas(d, 80, "karras"), clip=False)
    assert float(out.std()) == pytest.approx(0.3, rel=0.02) and abs(float(out.mean())) < 0.01


def test_a_network_tells_levels_apart():
    """Two per cent of sigma move the time embedding as much as two of a thousand training times do; log(sigma) / 4,
    unscaled, would hardly move it.
    """
    embedding = UNet(in_channels=1, channels=32, multipliers=[1], blocks=1, attention=[]).time_embedding

    def distance(one, other):
        with torch.no_grad():
            e = embedding(torch.tensor([one, other]))
        return float((e[0] - e[1]).norm() / e[0].norm())

    d = denoiser()
    for sigma in (0.002, 0.05, 0.5, 80.0):
        one, other = d._clock(torch.tensor([sigma, 1.02 * sigma], dtype=torch.float64)).tolist()
        assert 0.3 < distance(one, other) / distance(500.0, 502.0) < 3
        assert distance(math.log(sigma) / 4, math.log(1.02 * sigma) / 4) < 0.05 * distance(one, other)


def test_levels_outside_and_impossible_ones():
    d, x = denoiser(), torch.ones(2, *SHAPE)
    with pytest.warns(UserWarning, match="leaves the levels"):
        d.predict(x, torch.tensor([1e-4, 100.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d.predict(x, torch.tensor([1e-4, 100.0]))
        denoiser().predict(x, torch.tensor([0.002, 80.0]))
    for sigma, match in ((float("inf"), "finite"), (float("nan"), "finite"), (0.0, "positive")):
        with pytest.raises(ValueError, match=match):
            d.predict(x, torch.tensor([1.0, sigma]))


@pytest.mark.parametrize(
    "options",
    [
        {"sigma_max": math.inf},
        {"sigma_min": 0.0},
        {"sigma_min": 90.0},
        {"p_std": 0.0},
        {"p_mean": math.nan},
        {"p_mean": 90.0},
    ],
)
def test_refusals(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LogNormal(**options)
    with pytest.raises(UserError, match="levels"):
        build({"class_path": "diffusion.edm.LogNormal", "init_args": options}, LogNormal, where="levels")
    with pytest.raises(ValueError, match="sigma_data"):
        denoiser(sigma_data=0.0)
