"""Flow matching: straight paths in sigma, the distributions of times, and Gaussian data, whose velocity field is a
formula: with it every sampler and method gives what it gives with the exact denoiser.
"""

import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.box_mask import BoxMask
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser
from diffusion.continuous import ContinuousLevels
from diffusion.edm import LogNormal
from diffusion.flow import FlowDenoiser, LogitNormalTimes, UniformTimes
from diffusion.levels import SPACINGS, spaced_sigmas, time_at
from diffusion.losses import check_loss, denoising_loss
from diffusion.samplers.base import Sampler
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.heun import Heun
from diffusion.schedules import Tabulated
from diffusion.weighting.base import Weighting
from diffusion.weighting.edm import EDM
from diffusion.weighting.min_snr import MinSNR
from diffusion.weighting.simple import Simple
from diffusion.weighting.snr_plus_one import SNRPlusOne
from diffusion.weighting.target import Target
from inference.catalogue import catalogue
from restoration.base import Unsupported
from restoration.posterior import PosteriorSampler
from tests.diffusion.tools import COVARIANCE, MEAN, SHAPE, gaussian, normal, optimal

SAMPLERS = catalogue("diffusion/samplers", Sampler)
METHODS = catalogue("restoration", PosteriorSampler)


class VelocityField(nn.Module):
    """The velocity E[noise - x0 | x_t] of N(mean, covariance), a formula of x_t and t of its own."""

    def __init__(self, mean=MEAN, covariance=COVARIANCE):
        super().__init__()
        self.mean, self.covariance = mean.double(), covariance.double()

    def forward(self, x_t, clock, label=None):
        t = (clock.double() / 1000).view(-1, 1, 1)
        total = (1 - t) ** 2 * self.covariance + t**2 * torch.eye(len(self.mean), dtype=torch.float64)
        slope = (t * torch.eye(len(self.mean), dtype=torch.float64) - (1 - t) * self.covariance) @ torch.linalg.inv(
            total
        )
        centred = x_t.double().flatten(1) - (1 - t[:, 0]) * self.mean
        return ((slope @ centred[..., None])[..., 0] - self.mean).view_as(x_t).to(x_t.dtype)


def flow(network=None, levels=None, data_shape=SHAPE):
    return FlowDenoiser(network=network or VelocityField(), levels=levels or UniformTimes(), data_shape=data_shape)


def pixels(std, levels=None):
    """The flow of independent pixels N(0, std^2)."""
    return flow(VelocityField(torch.zeros(3), std**2 * torch.eye(3)), levels)


class LevelsOfFlow(GaussianDenoiser):
    """The exact denoiser of the same Gaussian, which names the levels of a flow."""

    def __init__(self, like):
        super().__init__(mean=MEAN, covariance=COVARIANCE, data_shape=SHAPE)
        self.like, self.sigma_min, self.sigma_max = like, like.sigma_min, like.sigma_max

    def level_at(self, time):
        return self.like.level_at(time)


def epsilon_prior():
    """A network of epsilon on a table of the flow's thousand levels: another way to the same Gaussian."""
    sigmas = flow().level_at(torch.arange(1000, dtype=torch.float64))
    alphas_bar = 1 / (1 + sigmas.square())
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_bar[:-1]])
    return optimal("epsilon", Tabulated(betas=(1 - alphas_bar / before).tolist()))


def test_it_is_the_exact_denoiser():
    d, sigma = flow(), torch.tensor([0.00101, 0.05, 0.5, 3.0, 80.0, 998.9], dtype=torch.float64)
    level = sigma.view(-1, 1, 1, 1)
    x = MEAN.view(SHAPE) + 0.5 * normal(6, *SHAPE) + level * normal(6, *SHAPE, seed=1)
    found, expected = d.predict(x, sigma), gaussian().predict(x, sigma)
    # the network is asked in float32: 6e-8 of x_t and of its time, whose numbers are of order 1
    torch.testing.assert_close(found.x0, expected.x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.eps, expected.eps, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.x0 + level * found.eps, x, rtol=1e-12, atol=1e-12)
    single = d.predict(x.float(), sigma.float())
    assert single.x0.dtype == torch.float32
    torch.testing.assert_close(single.x0.double(), expected.x0, rtol=0, atol=1e-4)


def test_the_network_sees_the_path_and_its_time():
    class Recorder(nn.Module):
        def forward(self, x, time, label=None):
            self.x, self.time = x, time
            return torch.ones_like(x)

    network = Recorder()
    d, t = flow(network), torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
    x0, noise, share = normal(3, *SHAPE), normal(3, *SHAPE, seed=1), t.view(-1, 1, 1, 1)
    asked = d.training_pair(x0, noise, t)
    torch.testing.assert_close(asked.input, (1 - share) * x0 + share * noise)
    torch.testing.assert_close(asked.target, noise - x0)
    torch.testing.assert_close(asked.time, 1000 * t)
    torch.testing.assert_close(asked.snr, ((1 - t) / t) ** 2)
    # asked in sigma, at x = x_t / (1 - t) = x0 + sigma noise, it sees the same, and its answer is read back exactly
    sigma = t / (1 - t)
    x = x0 + sigma.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(x, asked.input / (1 - share))
    p = d.predict(x, sigma)
    torch.testing.assert_close(network.x, asked.input.float())
    torch.testing.assert_close(network.time, asked.time.float())
    torch.testing.assert_close(p.x0, asked.input - share)
    torch.testing.assert_close(p.eps - p.x0, torch.ones_like(x))  # v = noise - x0


def test_the_least_loss_of_gaussian_data():
    """Var[v | x_t] = s^2 / ((1 - t)^2 s^2 + t^2); the field of another width costs more."""
    count, std = 20000, 0.3
    x0, noise = std * normal(count, *SHAPE), normal(count, *SHAPE, seed=1)
    for t in (0.01, 0.3, 0.9, 0.999):
        time = torch.full((count,), t, dtype=torch.float64)
        found, worse = (denoising_loss(pixels(s), x0, noise, time, weighting=Target()) for s in (std, 0.4))
        expected = std**2 / ((1 - t) ** 2 * std**2 + t**2)
        assert float(found.mean()) == pytest.approx(expected, abs=5 * float(found.std()) / count**0.5)
        assert t > 0.9 or float((worse - found).mean()) > 0  # near t = 1 the width hardly matters


@pytest.mark.parametrize("weighting", [Target(), SNRPlusOne(), EDM(), Simple(), MinSNR()])
def test_the_loss_is_the_weighted_error_of_x0(weighting):
    """Through v or through x0, the same number: MSE_v = MSE_x0 / t^2."""
    d, t = flow(), torch.tensor([0.01, 0.3, 0.7, 0.95], dtype=torch.float64)
    sigma, x0, noise = t / (1 - t), normal(4, *SHAPE), normal(4, *SHAPE, seed=1)
    error = (d.predict(x0 + sigma.view(-1, 1, 1, 1) * noise, sigma).x0 - x0).square().mean((1, 2, 3))
    weight = t**-2 if weighting.of_target else weighting.on_x0(sigma**-2)
    torch.testing.assert_close(
        denoising_loss(d, x0, noise, t, weighting=weighting), weight * error, rtol=1e-4, atol=1e-8
    )


def test_weights_that_leave_the_start_of_drawing_untrained_are_refused():
    """At t = 1 there is noise alone: what is 0 there says nothing of where drawing begins."""
    refused = set()
    for name, cls in catalogue("diffusion/weighting", Weighting).items():
        try:
            check_loss(flow(), cls(), 0.001)
        except ValueError as error:
            assert f"{cls.__name__} falls to 0" in str(error) and "Target" in str(error)
            refused.add(name)
    assert {"simple", "min_snr"} <= refused and not refused & {"target", "snr_plus_one", "truncated_snr", "edm"}


def test_times():
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform, normal_times = UniformTimes().quantile(u), LogitNormalTimes().quantile(u)
    for t in (uniform, normal_times):
        assert 0.001 <= float(t.min()) <= float(t.max()) <= 0.999 and t.dtype == torch.float64
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(uniform.std()) == pytest.approx(0.998 / 12**0.5, abs=0.003)
    logit = normal_times.logit()
    assert float(logit.mean()) == pytest.approx(0, abs=0.02) and float(logit.std()) == pytest.approx(1, abs=0.01)
    # log(t / (1 - t)) is log sigma: the same levels as EDM's distribution of that mean and width
    shifted = LogitNormalTimes(mean=-0.5, std=1.3)
    same = LogNormal(p_mean=-0.5, p_std=1.3, sigma_min=shifted.sigma_min, sigma_max=shifted.sigma_max)
    t = shifted.quantile(u)
    torch.testing.assert_close(t / (1 - t), same.quantile(u), rtol=1e-9, atol=1e-12)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for levels in (UniformTimes(t_min=0.2, t_max=0.7), LogitNormalTimes(t_min=0.2, t_max=0.7)):
        torch.testing.assert_close(levels.quantile(ends), torch.tensor([0.2, 0.7], dtype=torch.float64))


def test_the_first_level_is_finite():
    d = flow()
    assert d.sigma_min == pytest.approx(0.001 / 0.999) and d.sigma_max == pytest.approx(999)
    for spacing in SPACINGS:
        sigmas = spaced_sigmas(d, 25, spacing)
        assert bool((sigmas.diff() < 0).all()) and float(sigmas[0]) <= d.sigma_max
    assert float(spaced_sigmas(d, 25, "trailing")[0]) == d.sigma_max
    t = d.level_at(torch.arange(1000, dtype=torch.float64))
    t = t / (1 + t)
    torch.testing.assert_close(t.diff(), torch.full((999,), 0.998 / 999, dtype=torch.float64))  # even in t
    assert time_at(d, 1.0) == pytest.approx(499.5, abs=1e-3)
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        d.level_at(torch.tensor([1000.0]))


def test_bins_are_equally_frequent():
    for levels in (UniformTimes(), LogitNormalTimes()):
        d, u = flow(levels=levels), (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        assert d.bins(5)[0] == "q000-199" and torch.bincount(d.bin_of(d.training_time(u), 5)).tolist() == [200] * 5


def test_a_step_of_ddim_is_eulers_step_along_the_path():
    d, x = flow(), 999 * normal(3, *SHAPE)
    sigmas = spaced_sigmas(d, 10, "trailing")
    found = DDIM().sample(d, x, sigmas, clip=False)
    t = (sigmas / (1 + sigmas)).tolist()
    x_t = (1 - t[0]) * x
    for now, after in pairwise(t):
        v = d.network(x_t.float(), torch.full((3,), 1000 * now)).double()
        x_t = x_t + (after - now) * v
    torch.testing.assert_close(found, x_t, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_what_it_draws_with_the_exact_denoiser(name):
    """Samplers see x0 and eps alone: what a velocity field gives is what the formula and a network of epsilon give."""
    sampler, priors = SAMPLERS[name](), (flow(), LevelsOfFlow(flow()), epsilon_prior())
    sigmas = sampler.suited(spaced_sigmas(priors[0], 20, "karras"))
    x, random = float(sigmas[0]) * normal(4, *SHAPE), RandomStreams(0)
    drawn = [
        sampler.sample(p, x, sigmas, noise=random.sequence("test", range(4), [0] * 4, SHAPE), clip=False)
        for p in priors
    ]
    assert float(drawn[1].std()) > 0.1
    for one in (drawn[0], drawn[2]):
        torch.testing.assert_close(one, drawn[1], rtol=0, atol=1e-4)


def test_drawing_ends_on_the_data():
    """From noise alone at the first level down: mean and covariance of the data."""
    d = flow()
    out = Heun().sample(d, 80 * normal(4000, *SHAPE), spaced_sigmas(d, 40, "karras"), clip=False).flatten(1)
    torch.testing.assert_close(out.mean(0), MEAN, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(out.T), COVARIANCE, rtol=0, atol=0.02)
    out = DDIM().sample(d, d.sigma_max * normal(4000, *SHAPE), spaced_sigmas(d, 200), clip=False).flatten(1)
    torch.testing.assert_close(torch.cov(out.T), COVARIANCE, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", METHODS)
def test_every_posterior_sampler_gives_the_rows_of_the_oracle(name):
    random = RandomStreams(0)
    x = (MEAN.view(1, *SHAPE) + normal(2, *SHAPE) @ torch.linalg.cholesky(COVARIANCE).T).float()
    m = measure(x, degradation=BoxMask(size=1), noise=GaussianNoise(sigma=0.1), index=[0, 1], random=random)
    answers = []
    for prior in (flow(), LevelsOfFlow(flow()), epsilon_prior()):
        try:
            method = METHODS[name](prior=prior, steps=10)
            method.check(m.operator, m.noise)
        except (TypeError, Unsupported, UserError) as error:
            pytest.skip(f"{name} is made otherwise, or cannot take a mask: {error}")
        answers.append(method.restore(m, num_samples=2, random=random).samples)
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=2e-5)
    # x0 = x - sigma eps of a float32 network at sigma = 999 is right to 6e-5, which steps amplify
    torch.testing.assert_close(answers[2], answers[1], rtol=0, atol=2e-3)


def test_the_methods_of_the_issue_are_among_them():
    assert {"dps", "sdedit"} <= set(METHODS)


def test_levels_outside_and_impossible_ones():
    x = torch.ones(2, *SHAPE)
    with pytest.warns(UserWarning, match="leaves the levels"):
        flow().predict(x, torch.tensor([1e-4, 5000.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow().predict(x, torch.tensor([0.001001, 999.0]))
    for sigma, match in ((math.inf, "finite"), (math.nan, "finite"), (0.0, "positive")):
        with pytest.raises(ValueError, match=match):
            flow().predict(x, torch.tensor([1.0, sigma]))


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        ("UniformTimes", {"t_max": 1.0}, "t_max.*infinite.*0.999"),
        ("UniformTimes", {"t_min": 0.0}, "t_min"),
        ("UniformTimes", {"t_min": 0.9, "t_max": 0.1}, "t_min"),
        ("UniformTimes", {"t_max": math.nan}, "t_max"),
        ("LogitNormalTimes", {"t_max": 1.0}, "infinite"),
        ("LogitNormalTimes", {"std": 0.0}, "std"),
        ("LogitNormalTimes", {"mean": math.nan}, "mean"),
        ("LogitNormalTimes", {"mean": 90.0}, "hardly any time"),
    ],
)
def test_refusals(kind, options, match):
    with pytest.raises(ValueError, match=match):
        {"UniformTimes": UniformTimes, "LogitNormalTimes": LogitNormalTimes}[kind](**options)
    with pytest.raises(UserError, match="levels"):
        build({"class_path": f"diffusion.flow.{kind}", "init_args": options}, ContinuousLevels, where="levels")
