"""A direction through the prior is the covariance of x0 given x times it, and what the network learned stays."""

from dataclasses import replace

import torch
from posterior_worlds import COVARIANCE, PIXELS, SHAPE, gaussian_prior

from diffusion.samplers.base import predictor
from restoration.through_prior import through_prior


def test_it_is_the_covariance_on_gaussian_data():
    x = torch.linspace(-1, 1, 2 * PIXELS, dtype=torch.float64).view(2, *SHAPE)
    v = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64).expand(2, -1).reshape(2, *SHAPE)
    predict = predictor(gaussian_prior(), clip=False)
    for sigma in (0.1, 1.0, 20.0):
        covariance = torch.linalg.inv(torch.linalg.inv(COVARIANCE) + torch.eye(PIXELS).double() / sigma**2)
        found, moved = through_prior(predict, x, sigma, lambda x0: v)
        torch.testing.assert_close(moved.flatten(1), v.flatten(1) @ covariance)
        torch.testing.assert_close(found.x0, predict(x, sigma).x0)
        assert not moved.requires_grad and not found.x0.requires_grad and not found.eps.requires_grad


def test_a_learned_variance_stays():
    plain = predictor(gaussian_prior(), clip=False)

    def learned(x, sigma):
        found = plain(x, sigma)
        return replace(found, variance=0 * x + 2, fraction=0 * x + 0.5)

    found, _ = through_prior(learned, torch.zeros(1, *SHAPE).double(), 1.0, lambda x0: torch.ones_like(x0))
    assert found.variance is not None and float(found.variance.mean()) == 2
    assert found.fraction is not None and float(found.fraction.mean()) == 0.5 and not found.fraction.requires_grad
