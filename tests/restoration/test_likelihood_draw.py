"""x0 drawn from a Gaussian times a likelihood: the moments of that Gaussian, and the fixed point without a linear A."""

import pytest
import torch
from helpers import tiny_denoiser

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.high_dynamic_range import HighDynamicRange
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.phase_retrieval import PhaseRetrieval
from restoration.base import Unsupported
from restoration.daps import DAPS
from restoration.likelihood_draw import draw_by_langevin, draw_exactly
from restoration.posterior import Problem

SIGMA, TAU, SAMPLES = 0.5, 0.2, 4000


def measured(degradation, side: int = 4, seed: int = 0) -> Measurement:
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    noise = GaussianNoise(sigma=0.0)
    return measure(x, degradation=degradation, noise=noise, index=[0], random=RandomStreams(0))


@pytest.mark.parametrize("how", ["exact", "langevin"])
def test_moments_for_a_linear_operator(how):
    """N((I / sigma^2 + A^T A / tau^2)^-1 (m / sigma^2 + A^T y / tau^2), that inverse) for block means."""
    m = measured(AveragePool(factor=2))
    problem = Problem(m, SAMPLES, RandomStreams(1))
    mean, about = torch.full((SAMPLES, 1, 4, 4), 0.1), torch.full((SAMPLES,), SIGMA)
    with problem.sequence("draw") as noise:
        if how == "exact":
            x = draw_exactly(problem, mean, about, TAU, noise, stream="white")
        else:
            x = draw_by_langevin(problem, mean, about, TAU, noise, steps=150, step_size=0.1)
    A = torch.stack([m.operator(e.view(1, 1, 4, 4)).flatten() for e in torch.eye(16)], 1)
    precision = torch.eye(16) / SIGMA**2 + A.T @ A / TAU**2
    covariance = precision.inverse()
    centre = covariance @ (mean[0].flatten() / SIGMA**2 + A.T @ m.y.flatten() / TAU**2)
    found = x.flatten(1)
    white = (found - centre) @ torch.linalg.cholesky(precision)
    assert float(white.mean(0).norm()) < 0.12
    deviations = torch.linalg.eigvalsh(white.T.cov()).sqrt()
    assert float(deviations.min()) > 0.9 and float(deviations.max()) < 1.1


def test_steps_of_langevin_are_no_longer_than_the_mean_bears():
    """Noise of the measurement far above the spread about the mean: x0 stays at the mean, with that spread."""
    m = measured(AveragePool(factor=2))
    problem = Problem(m, SAMPLES, RandomStreams(1))
    mean, about = torch.full((SAMPLES, 1, 4, 4), 0.1), torch.full((SAMPLES,), 0.1)
    with problem.sequence("draw") as noise:
        x = draw_by_langevin(problem, mean, about, 2.0, noise, steps=60, step_size=0.5)
    assert float(x.mean()) == pytest.approx(0.1, abs=0.01)
    assert 0.09 < float(x.std()) < 0.13  # a step of half the variance adds a seventh


@pytest.mark.parametrize("degradation", [HighDynamicRange(factor=2), PhaseRetrieval()], ids=["clipped", "phase"])
def test_langevin_goes_where_a_nonlinear_operator_pulls(degradation):
    """With a small tau the residual falls to at most about that, from a mean that does not explain y."""
    m = measured(degradation, side=8)
    problem = Problem(m, 2, RandomStreams(1))
    truth = measured(degradation, side=8).truth
    assert truth is not None
    start = (0.7 * truth).repeat(2, 1, 1, 1)  # near enough that phase retrieval has one answer
    with problem.sequence("draw") as noise:
        x = draw_by_langevin(problem, start, torch.ones(2), 0.02, noise, steps=300, step_size=0.3)
    before, after = (float((problem.operator(v) - problem.y).square().mean().sqrt()) for v in (start, x))
    assert after < 0.025 < 0.04 < before and bool(x.isfinite().all())


def test_daps_takes_a_nonlinear_operator_by_langevin_steps_alone():
    """The answer explains y better than another image does, by a factor of two at least."""
    m, prior = measured(PhaseRetrieval(), side=8), tiny_denoiser((1, 8, 8))
    langevin = DAPS(prior=prior, steps=8, flow_steps=2, inner="langevin", langevin_steps=100)
    samples = langevin.restore(m, num_samples=2, random=RandomStreams(0)).samples
    residual = (m.operator.repeat(2)(samples.flatten(0, 1)) - m.y).square().mean().sqrt()
    other = (measured(PhaseRetrieval(), side=8, seed=3).y - m.y).square().mean().sqrt()
    assert float(residual) < 0.5 * float(other)
    with pytest.raises(Unsupported, match="needs a linear operator"):
        DAPS(prior=prior).check(m.operator, m.noise)
