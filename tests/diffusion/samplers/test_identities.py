"""Samplers that must be one another, and the variance preserving formulas of the papers, written out here once more."""

import math
from itertools import pairwise

import pytest
import torch

from diffusion.denoiser import Prediction
from diffusion.levels import karras_sigmas, spaced_sigmas
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from tests.diffusion.tools import SHAPE, Scripted, gaussian, normal


def batches(count):
    return [normal(3, *SHAPE, seed=100 + i) for i in range(count)]


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_ddim_with_eta_1_is_ancestral(spacing, clip):
    denoiser = gaussian()
    levels = spaced_sigmas(denoiser, 25, spacing)
    start = float(levels[0]) * normal(3, *SHAPE)
    results = [
        s.sample(denoiser, start, levels, noise=Scripted(batches(24)), clip=clip)
        for s in (DDIM(eta=1.0), AncestralDDPM())
    ]
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


def test_ddim_is_eulers_method():
    """x' = x + (sigma' - sigma) eps, for any estimate."""
    denoiser, levels = gaussian(), karras_sigmas(25, 0.01, 80)
    x = start = 80 * normal(3, *SHAPE)
    for sigma, sigma_next in pairwise(levels.tolist()):
        x = x + (sigma_next - sigma) * denoiser.predict(x, torch.full((3,), sigma, dtype=torch.float64)).eps
    torch.testing.assert_close(DDIM().sample(denoiser, start, levels, clip=False), x, rtol=1e-11, atol=1e-11)


def test_heun_without_churn_draws_nothing():
    denoiser, levels, start = gaussian(), karras_sigmas(10, 0.01, 80), 80 * normal(3, *SHAPE)
    plain = Heun().sample(denoiser, start, levels)
    outside = Heun(churn=5.0, s_min=100.0, s_max=200.0).sample(denoiser, start, levels, noise=Scripted([]))
    assert torch.equal(plain, outside)


def test_churn_keeps_the_distribution_of_x():
    """Raising sigma to s adds exactly the variance s^2 - sigma^2."""
    sampler, seen = Heun(churn=2.0), []

    def predict(x, sigma):
        seen.append((x, sigma))
        return Prediction(x0=x, eps=torch.zeros_like(x))

    x, z = normal(3, *SHAPE), normal(3, *SHAPE, seed=1)
    sampler.step(predict, x, 4.0, 2.0, sampler.start([4.0, 2.0, 1.0, 0.5, 0.0]), Scripted([z]))
    assert seen[0][1] == pytest.approx(4 * math.sqrt(2))  # churn / S = 0.5, capped at sqrt(2) - 1
    torch.testing.assert_close(seen[0][0], x + math.sqrt(seen[0][1] ** 2 - 16) * z)


def test_dpm_solver_begins_like_ddim():
    """The first step of DPM-Solver++ is of first order, which is DDIM's."""
    x = 80 * normal(3, *SHAPE)
    predict = lambda x, s: gaussian().predict(x, torch.full((3,), s, dtype=torch.float64))  # noqa: E731
    one, other = (s.step(predict, x, 80.0, 30.0, None, None).x for s in (DPMSolverPP2M(), DDIM()))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def vp(sigma):
    """alpha-bar of a level."""
    return 1 / (1 + sigma**2)


STEPS = [(157.4, 90.0), (10.0, 9.7), (1.0, 0.3), (0.02, 0.01)]


@pytest.mark.parametrize(("sigma", "sigma_next"), STEPS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ancestral_in_the_papers_words(sigma, sigma_next, variance):
    """mu = sqrt(ab') beta / (1 - ab) x0 + sqrt(alpha) (1 - ab') / (1 - ab) x, respaced beta = 1 - ab / ab' (Ho et al.,
    equations 6 and 7).
    """
    x0, x, z = normal(3, *SHAPE), sigma * normal(3, *SHAPE, seed=1), normal(3, *SHAPE, seed=2)
    ab, ab_next = vp(sigma), vp(sigma_next)
    beta = 1 - ab / ab_next
    mean = math.sqrt(ab_next) * beta / (1 - ab) * x0 + math.sqrt(1 - beta) * (1 - ab_next) / (1 - ab) * (
        math.sqrt(ab) * x
    )
    spread = math.sqrt(beta * ((1 - ab_next) / (1 - ab) if variance == "fixed_small" else 1))
    found = (
        AncestralDDPM(variance=variance)
        .step(lambda *_: Prediction(x0=x0, eps=(x - x0) / sigma), x, sigma, sigma_next, None, Scripted([z]))
        .x
    )
    torch.testing.assert_close(math.sqrt(ab_next) * found, mean + spread * z, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("sigma", "sigma_next"), STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_in_the_papers_words(sigma, sigma_next, eta):
    """sqrt(ab') x0 + sqrt(1 - ab' - s^2) eps + s z, s = eta sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab') (Song et al.,
    equations 12 and 16).
    """
    x0, eps, z = normal(3, *SHAPE), normal(3, *SHAPE, seed=1), normal(3, *SHAPE, seed=2)
    ab, ab_next = vp(sigma), vp(sigma_next)
    s = eta * math.sqrt((1 - ab_next) / (1 - ab)) * math.sqrt(1 - ab / ab_next)
    expected = math.sqrt(ab_next) * x0 + math.sqrt(1 - ab_next - s**2) * eps + s * z
    found = (
        DDIM(eta=eta)
        .step(lambda *_: Prediction(x0=x0, eps=eps), x0 + sigma * eps, sigma, sigma_next, None, Scripted([z]))
        .x
    )
    torch.testing.assert_close(math.sqrt(ab_next) * found, expected, rtol=1e-8, atol=1e-9)


def test_dpm_solver_in_the_papers_words():
    """x' = (b' / b) x - a' (e^-h - 1) D, lambda = log(a / b), over three steps (Lu et al., algorithm 2)."""
    levels, data = [20.0, 8.0, 5.0, 1.0], [normal(3, *SHAPE, seed=i) for i in range(3)]
    a, b = [math.sqrt(vp(s)) for s in levels], [math.sqrt(1 - vp(s)) for s in levels]
    lam = [math.log(p / q) for p, q in zip(a, b, strict=True)]
    x = 20 * normal(3, *SHAPE, seed=9)
    expected, sampler, memory = a[0] * x, DPMSolverPP2M(), None
    for i in range(3):
        h = lam[i + 1] - lam[i]
        r = (lam[i] - lam[i - 1]) / h if i else 1.0
        d = data[i] if i == 0 else (1 + 1 / (2 * r)) * data[i] - 1 / (2 * r) * data[i - 1]
        expected = b[i + 1] / b[i] * expected - a[i + 1] * (math.exp(-h) - 1) * d
        outcome = sampler.step(
            lambda *_, i=i: Prediction(x0=data[i], eps=data[i]), x, levels[i], levels[i + 1], memory, None
        )
        x, memory = outcome.x, outcome.memory
    torch.testing.assert_close(a[-1] * x, expected, rtol=1e-10, atol=1e-10)
