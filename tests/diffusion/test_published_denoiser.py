"""Denoisers as published: units, levels that are known and refused, training pairs, what wrappers pass on."""

import pytest
import torch

from common.errors import UserError
from diffusion.assemble import assemble
from diffusion.autocast import Autocast
from diffusion.denoiser import NetworkDenoiser
from diffusion.guidance import Guided
from diffusion.levels import spaced_sigmas
from diffusion.losses import denoising_loss
from diffusion.published_denoiser import PublishedDenoiser, UniformLevels
from diffusion.weighting.target import Target
from networks.denoisers.dncnn import DnCNN
from networks.denoisers.drunet import DRUNet
from networks.denoisers.ffdnet import FFDNet
from networks.denoisers.ircnn import IRCNN


def denoiser(network=None, *, from_255=0.0, to_255=75.0) -> NetworkDenoiser:
    torch.manual_seed(0)
    network = FFDNet(channels=1, width=8, layers=3) if network is None else network
    levels = UniformLevels(from_255=from_255, to_255=to_255)
    return assemble(network=network, schedule=levels, prediction="x0", data_shape=(1, 64, 64)).requires_grad_(False)


def noisy(sigma, shape=(2, 1, 9, 12)):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator) * 2 - 1 + sigma * torch.randn(shape, generator=generator)


def test_the_network_sees_zero_to_one_and_levels_of_that_unit():
    prior = denoiser()
    sigma = torch.tensor([25 / 127.5, 50 / 127.5])
    x = noisy(0.3)
    found = prior.predict(x, sigma)
    assert isinstance(prior, PublishedDenoiser)
    unit = prior.network((x + 1) / 2, torch.tensor([25 / 255, 50 / 255]))
    torch.testing.assert_close(found.x0, 2 * unit - 1)
    torch.testing.assert_close(x, found.x0 + sigma.view(-1, 1, 1, 1) * found.eps)
    grid = sigma.view(-1, 1, 1, 1).expand(2, 1, 9, 12)
    torch.testing.assert_close(prior.predict(x, grid).x0, found.x0)


@pytest.mark.parametrize(
    ("levels", "known", "refused"),
    [
        ((0, 75), (0.01, 40, 75.05), (76, 127.5)),
        ((10, 50), (10, 50), (9.8, 50.2)),
        ((25, 25), (23, 25, 27), (22, 28)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_levels_beyond_the_range_are_refused_in_one_sentence(levels, known, refused):
    prior = denoiser(from_255=levels[0], to_255=levels[1])
    x = noisy(0.2)
    for level in known:
        sigma = torch.full((2,), level / 127.5)
        assert torch.isfinite(prior.predict(x, sigma).x0).all() and prior.refused(level / 127.5, level / 127.5) is None
    for level in refused:
        sigma = torch.tensor([sum(levels) / 2 / 127.5, level / 127.5])
        for one in (prior, Autocast(prior), Guided(denoiser=prior, scale=0)):
            with pytest.raises(UserError, match=rf"FFDNet\) knows noise of level.* sigma_255 {level:g}: give a prior"):
                one.predict(x, sigma)
    # who wants the nearest level clamps, and is answered
    clamped = torch.full((2,), 1.0).clamp(prior.sigma_min, prior.sigma_max)
    assert torch.isfinite(prior.predict(x, clamped).x0).all()


@pytest.mark.parametrize(("steps", "spacing"), [(5, "karras"), (5, "trailing"), (1000, "linspace")])
def test_levels_of_a_sampler_lie_within_the_range(steps, spacing):
    prior = denoiser()
    sigmas = spaced_sigmas(prior, steps, spacing)
    assert prior.refused(float(sigmas[-2]), float(sigmas[0])) is None and float(sigmas[0]) <= 75 / 127.5 + 1e-9


def test_a_blind_network_says_so_and_ignores_the_level():
    blind, told = denoiser(DnCNN(channels=1, width=4, layers=3), to_255=55), denoiser()
    x = noisy(0.2)
    low, high = torch.full((2,), 0.1), torch.full((2,), 0.3)
    assert blind.blind and torch.equal(blind.predict(x, low).x0, blind.predict(x, high).x0)
    assert not told.blind and not torch.equal(told.predict(x, low).x0, told.predict(x, high).x0)
    assert Autocast(blind).blind and Guided(denoiser=blind, scale=0).blind and Autocast(blind).any_size
    with pytest.raises(ValueError, match=r"takes one sigma per image"):
        blind.predict(x, torch.full((2, 1, 9, 12), 0.1))


def test_training_asks_what_restoration_asks():
    """The loss of a network that knows the answer is 0, and that of another one the mean squared error in [0, 1]."""
    prior = denoiser()
    x0, noise = noisy(0), torch.randn(2, 1, 9, 12)
    time = prior.training_time(torch.tensor([0.2, 0.9]))
    torch.testing.assert_close(time, torch.tensor([15 / 127.5, 67.5 / 127.5], dtype=torch.float64))
    found = prior.predict(x0 + time.float().view(-1, 1, 1, 1) * noise, time.float()).x0
    expected = ((found - x0) / 2).square().flatten(1).mean(1) * 1.0
    given = denoising_loss(prior, x0, noise, time)
    weight = time.float().square().reciprocal()  # Simple: uniform on epsilon
    torch.testing.assert_close(given, expected * weight, rtol=1e-4, atol=0)
    assert prior.bin_of(time.clone(), 2).tolist() == [0, 1]


def test_drunet_scales_with_picture_and_level():
    """Without biases: twice the picture with twice the level is twice the answer."""
    torch.manual_seed(0)
    network = DRUNet(channels=1, widths=[4, 4, 4, 4], blocks=1)
    x, level = torch.rand(1, 1, 16, 16), torch.tensor([0.1])
    torch.testing.assert_close(network(2 * x, 2 * level), 2 * network(x, level))


@pytest.mark.parametrize("levels", [(-1, 50), (60, 50), (0, 0), (0, float("inf"))])
def test_impossible_ranges(levels):
    with pytest.raises(ValueError, match="from_255"):
        UniformLevels(from_255=levels[0], to_255=levels[1])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prediction": "epsilon"}, "prediction to x0"),
        ({"prediction": "edm"}, "LogNormal"),
        ({"prediction": "x0", "variance": "learned_range"}, "set variance to fixed"),
    ],
)
def test_options_that_contradict_each_other(more, message):
    with pytest.raises(ValueError, match=message):
        assemble(network=FFDNet(channels=1, width=4, layers=2), schedule=UniformLevels(), data_shape=(1, 8, 8), **more)


@pytest.mark.parametrize(
    "network",
    [
        lambda: FFDNet(channels=1, width=12, layers=4),
        lambda: DnCNN(channels=1, width=12, layers=4),
        lambda: IRCNN(channels=1, width=8, levels=2, step_255=38),
        lambda: DRUNet(channels=1, widths=[8, 8, 8, 8], blocks=1),
    ],
    ids=["ffdnet", "dncnn", "ircnn", "drunet"],
)
def test_every_architecture_learns(network):
    """A few steps on one batch bring its loss down, and every weight takes part."""
    prior = denoiser(network()).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.linspace(-0.8, 0.8, 16).expand(4, 1, 16, 16)
    noise = torch.randn((4, 1, 16, 16), generator=generator)
    time = prior.training_time(torch.tensor([0.1, 0.4, 0.7, 1.0]))
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = denoising_loss(prior, x0, noise, time, weighting=Target()).mean()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in prior.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[6] < losses[0]
