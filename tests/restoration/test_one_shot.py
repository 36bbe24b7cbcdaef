"""One call of a denoiser: the posterior mean of a Gaussian at the level of the measurement, contrast taken into
account; refusals.
"""

import pytest
import torch
from torch import nn

from common.random_streams import RandomStreams
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.random_mask import RandomMask
from degradations.scaled import Scaled
from diffusion.denoiser import Denoiser, Prediction
from diffusion.published_denoiser import PublishedDenoiser, UniformLevels
from networks.denoisers.dncnn import DnCNN
from restoration.base import Cost, Unsupported
from restoration.daps import DAPS
from restoration.ddnm import DDNM
from restoration.ddrm import DDRM
from restoration.diffpir import DiffPIR
from restoration.dps import DPS
from restoration.one_shot import OneShot
from restoration.pigdm import PiGDM
from restoration.score_ald import ScoreALD
from restoration.sdedit import SDEdit


class White(Denoiser):
    """E[x0 | x] for x0 ~ N(0, s^2 I)."""

    data_shape, sigma_min, sigma_max, spread = (1, 8, 8), 1e-3, 100.0, 0.4

    def level_at(self, time):
        return time

    def predict(self, x, sigma, condition=None):
        level = sigma.view(-1, 1, 1, 1)
        x0 = x * self.spread**2 / (self.spread**2 + level**2)
        return Prediction(x0=x0, eps=(x - x0) / level)


@pytest.mark.parametrize("scale", [1.0, 0.6, 0.1])
def test_it_is_the_posterior_mean_whatever_the_contrast(scale):
    """y = a x + sigma z: E[x | y] = a s^2 y / (a^2 s^2 + sigma^2)."""
    sigma, s = 0.3, White.spread
    operator = Scaled(scale, (1, 8, 8)) if scale < 1 else IdentityOperator((1, 8, 8))
    y = RandomStreams(0).normal("y", 0, 0, (2, 1, 8, 8))
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(sigma=sigma), index=(0, 1))
    found = OneShot(prior=White()).restore(measurement, num_samples=3, random=RandomStreams(1))
    torch.testing.assert_close(found.samples[:, 0], scale * s**2 * y / (scale**2 * s**2 + sigma**2))
    assert found.samples.shape[1] == 1 and found.cost == Cost(nfe=1) == OneShot(prior=White()).calls()


def test_what_is_no_denoising_is_refused():
    method = OneShot(prior=White())
    mask = RandomMask(removed=0.5).operator_for((1, 8, 8), [0], RandomStreams(0))
    identity = IdentityOperator((1, 8, 8))
    for operator, noise, message in (
        (mask, GaussianNoise(sigma=0.1), "removes noise and undoes nothing"),
        (identity, GaussianNoise(sigma=0.0), "noise above 0"),
        (identity, PoissonNoise(scale=100), "white noise"),
    ):
        with pytest.raises(Unsupported, match=message):
            method.check(operator, noise)


def test_the_level_that_a_prior_must_know_is_that_of_the_picture_itself():
    """40 of 255 at half the contrast is a level of 80, which FFDNet does not know."""
    network = nn.Identity()
    prior = PublishedDenoiser(network=network, levels=UniformLevels(to_255=75), data_shape=(1, 8, 8))
    method, noise = OneShot(prior=prior), GaussianNoise(sigma_255=40)
    method.check(IdentityOperator((1, 8, 8)), noise)
    with pytest.raises(Unsupported, match="levels 0 to 75 of 255, and is asked about sigma_255 80"):
        method.check(Scaled(0.5, (1, 8, 8)), noise)


def test_chains_do_not_begin_in_noise_that_the_prior_does_not_know():
    prior = PublishedDenoiser(network=nn.Identity(), levels=UniformLevels(to_255=75), data_shape=(1, 8, 8))
    identity, noise = IdentityOperator((1, 8, 8)), GaussianNoise(sigma_255=25)
    for method in (DPS, DDRM, DDNM, PiGDM, DiffPIR, DAPS, ScoreALD):
        with pytest.raises(Unsupported, match=r"begin in pure noise.*is sigma_255 75, where pictures are still seen"):
            method(prior=prior, steps=5).check(identity, noise)
    SDEdit(prior=prior, steps=5).check(identity, noise)  # begins with the picture


def test_a_blind_prior_is_named():
    network = DnCNN(channels=1, width=2, layers=2).requires_grad_(False)
    prior = PublishedDenoiser(network=network, levels=UniformLevels(to_255=55), data_shape=(1, 8, 8))
    measurement = Measurement(
        y=torch.zeros(2, 1, 8, 8), operator=IdentityOperator((1, 8, 8)), noise=GaussianNoise(sigma=0.1), index=(0, 1)
    )
    notes = OneShot(prior=prior).restore(measurement, random=RandomStreams(1)).notes
    assert len(notes) == 2 and "blind" in notes[0]
