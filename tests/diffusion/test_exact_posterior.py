"""The posterior of mixtures under linear measurements, against sums over a grid and its own samples."""

import pytest
import torch

from diffusion.closed_form import GaussianDenoiser, MixtureDenoiser
from diffusion.exact_posterior import ExactPosterior, exact_posterior

SHAPE = (1, 1, 2)
PRIOR = MixtureDenoiser(
    weights=[0.3, 0.7],
    means=[[1.0, 0.5], [-0.5, 0.0]],
    covariances=[[[0.5, 0.2], [0.2, 0.4]], [0.3, 0.6]],
    data_shape=SHAPE,
)
A = torch.tensor([[1.0, 0.4], [0.0, 0.0], [0.2, -0.3]], dtype=torch.float64)
Y = torch.tensor([[0.6, 9.0, 0.1], [-0.8, -9.0, 0.2]], dtype=torch.float64)
SIGMA = 0.4


def found() -> ExactPosterior:
    return exact_posterior(PRIOR, A, Y, SIGMA)


def test_moments_and_weights_are_those_of_a_grid():
    """p(x) p(y | x) summed over a fine grid; the row of zeros measures nothing, whatever y says there."""
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    prior = PRIOR.log_density(x.view(-1, *SHAPE), torch.full((len(x),), 1e-3))
    share = PRIOR.responsibilities(x.view(-1, *SHAPE), torch.full((len(x),), 1e-3))[:, 0]
    for row, y in enumerate(Y):
        misfit = (y - x @ A.T)[:, [0, 2]].square().sum(1) / (2 * SIGMA**2)
        p = (prior - misfit).softmax(0)
        mean = p @ x
        centred = x - mean
        torch.testing.assert_close(found().mean[row], mean, atol=1e-4, rtol=0)
        torch.testing.assert_close(found().covariance[row], (p[:, None] * centred).T @ centred, atol=1e-4, rtol=0)
        assert float(found().weights[row, 0]) == pytest.approx(float(p @ share), abs=1e-3)
        below = found().below(torch.full((1, 2, 2), 0.21, dtype=torch.float64))[0, row]
        grid = torch.stack([p[x[:, d] < 0.21].sum() for d in (0, 1)])
        torch.testing.assert_close(below, grid, atol=5e-3, rtol=0)


def test_samples_have_its_moments():
    x = found().draw(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(1), found().mean, atol=0.02, rtol=0)
    for row in range(2):
        torch.testing.assert_close(x[row].T.cov(), found().covariance[row], atol=0.02, rtol=0)


def test_draws_do_not_hang_on_the_eigenvectors_of_a_processor(monkeypatch):
    """Their signs and, of equal eigenvalues, their directions are no property of a covariance."""
    before = found().draw(5, torch.Generator().manual_seed(0))
    eigh = torch.linalg.eigh

    def other_signs(matrix):
        values, vectors = eigh(matrix)
        return values, vectors * torch.tensor([1.0, -1.0], dtype=torch.float64)

    monkeypatch.setattr(torch.linalg, "eigh", other_signs)
    torch.testing.assert_close(found().draw(5, torch.Generator().manual_seed(0)), before)


def test_without_noise_what_is_measured_is_certain():
    prior = GaussianDenoiser(mean=0.1, covariance=[[1.0, 0.8], [0.8, 1.0]], data_shape=SHAPE)
    exact = exact_posterior(prior, torch.tensor([[1.0, 0.0]]), torch.tensor([[1.5]]), 0.0)
    torch.testing.assert_close(exact.mean[0], torch.tensor([1.5, 0.1 + 0.8 * 1.4], dtype=torch.float64))
    torch.testing.assert_close(exact.covariance[0], torch.diag(torch.tensor([0.0, 0.36], dtype=torch.float64)))


def test_another_basis():
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    torch.testing.assert_close(found().turned(turn).mean, found().mean @ turn)
    torch.testing.assert_close(found().turned(turn).covariance, turn.T @ found().covariance @ turn)
