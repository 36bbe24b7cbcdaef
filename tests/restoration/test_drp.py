"""Fixed points of DRP satisfy the equation that defines them, on priors that are formulas."""

import math

import pytest
import torch
from posterior_worlds import WORLDS, gaussian_prior
from torch import Tensor, nn

from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import GaussianMask
from diffusion.cold_restorer import ColdRestorer
from restoration.drp import DRP
from restoration.drp_denoiser import DenoisingDRP


def test_a_denoiser_is_at_rest_where_its_pull_is_that_of_the_data():
    """A^T (A x - y) + weight step (x - D(x)) = 0."""
    prior = gaussian_prior()
    method = DenoisingDRP(prior=prior, sigma_255=40.0, iterations=300, step=0.5, weight=0.4, clip=False)
    for name, make in WORLDS.items():
        measurement = make().measurement
        x = method.restore(measurement, random=RandomStreams(0)).samples[:, 0]
        operator = measurement.operator
        pull = 0.4 * 0.5 * (x - prior.predict(x, torch.full((1,), method.sigma).double()).x0)
        force = operator.adjoint(operator(x) - measurement.y) + pull
        assert float(force.abs().max()) < 1e-6 < float(pull.abs().max()), name


class Halved(nn.Module):
    """R(s) = s / 2 + 0.1: linear, so that a fixed point exists."""

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return 0.5 * x + 0.1


def test_a_restorer_is_at_rest_where_its_pull_is_that_of_the_data():
    """A^T (A x - y) + weight (H^T H + ridge) step (x - R(H x)) = 0."""
    shape = (1, 8, 8)
    prior = ColdRestorer(network=Halved(), family=GaussianBlur(steps=4, taps=5, std=0.6), data_shape=shape)
    x = RandomStreams(7).uniform("images", 0, 0, (2, *shape)).double() * 1.8 - 0.9
    measurement = measure(
        x, degradation=Identity(), noise=GaussianNoise(sigma=0.1), index=[0, 1], random=RandomStreams(3)
    )
    method = DRP(prior=prior, severity=2, iterations=200, step=0.5, weight=0.4, ridge=0.05)
    found = method.restore(measurement, random=RandomStreams(0)).samples[:, 0]
    blur = prior.family.at(2, {}, shape)
    away = 0.5 * (found - prior.predict(blur(found), 2))
    pull = 0.4 * (blur.adjoint(blur(away)) + 0.05 * away)
    assert float((found - measurement.y + pull).abs().max()) < 1e-5 < float(pull.abs().max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severity": 0}, r"severity must lie in 1\.\.4, got 0"),
        ({"severity": 5}, r"severity must lie in 1\.\.4, got 5"),
        ({"ridge": 0.0}, "ridge must be positive and finite, got 0"),
        ({"ridge": math.inf}, "ridge must be positive and finite, got inf"),
        ({"weight": math.nan}, "weight be positive and finite, got"),
        ({"iterations": 0}, "iterations must be at least 1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    prior = ColdRestorer(network=Halved(), family=GaussianBlur(steps=4, taps=5, std=0.6), data_shape=(1, 8, 8))
    with pytest.raises(ValueError, match=message):
        DRP(prior=prior, **options)


def test_a_family_that_draws_its_parameters_is_refused():
    prior = ColdRestorer(network=Halved(), family=GaussianMask(data="mnist"), data_shape=(1, 28, 28))
    with pytest.raises(ValueError, match=r"drp needs a restorer of a linear family .*: take one of blur or pixelation"):
        DRP(prior=prior)
