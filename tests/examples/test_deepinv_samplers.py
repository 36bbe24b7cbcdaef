"""deepinv's samplers as methods: counted calls, samples that do not depend on their batch, a mask for each image."""

import pytest
import torch
from helpers import tiny_denoiser

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.circular_blur import CircularGaussianBlur
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask

pytest.importorskip("deepinv")
from examples.deepinv_samplers import DeepinvDDRM, DeepinvDiffPIR, DeepinvDPS

METHODS = [DeepinvDDRM, DeepinvDPS, DeepinvDiffPIR]
DEGRADATIONS = [RandomMask(removed=0.5), AveragePool(factor=2), CircularGaussianBlur(std=0.6)]


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("cls", METHODS, ids=lambda c: c.__name__)
def test_samples_are_keyed_and_calls_are_counted(cls, degradation, monkeypatch):
    """An image alone, with one sample, is what it is among others; torch's own random numbers come back unharmed."""
    prior, random, seen = tiny_denoiser((1, 8, 8)), RandomStreams(0), []
    x = 2 * random.uniform("images", 0, 0, (3, 1, 8, 8)) - 1
    m = measure(x, degradation=degradation, noise=GaussianNoise(sigma=0.1), index=[4, 5, 6], random=random)
    before, predict = torch.randn_like, type(prior).predict
    monkeypatch.setattr(
        type(prior), "predict", lambda self, x, *a, **k: (seen.append(len(x)), predict(self, x, *a, **k))[1]
    )
    method = cls(prior=prior, steps=4)
    samples = method.restore(m, num_samples=2, random=random).samples
    assert samples.shape == (3, 2, 1, 8, 8) and bool(samples.isfinite().all()) and not samples.requires_grad
    assert seen == [6] * method.calls().nfe and method.calls().backwards == (4 if cls is DeepinvDPS else 0)
    alone = method.restore(m.pick([1]), num_samples=1, random=random).samples
    torch.testing.assert_close(alone[0, 0], samples[1, 0], atol=1e-4, rtol=0)
    assert not torch.allclose(samples[:, 0], samples[:, 1], atol=1e-2) and torch.randn_like is before


@pytest.mark.parametrize(
    ("cls", "options", "match"),
    [
        (DeepinvDPS, {"weight": 0}, "weight must be positive, got 0"),
        (DeepinvDDRM, {"eta": 2}, "eta and eta_b must lie in 0 .. 1, got 2"),
        (DeepinvDiffPIR, {"lambda_": -1}, "lambda_ must be positive"),
        (DeepinvDiffPIR, {"steps": 1}, "steps must be at least 2, got 1"),
    ],
)
def test_options_out_of_range(cls, options, match):
    with pytest.raises(ValueError, match=match):
        cls(prior=tiny_denoiser((1, 8, 8)), **options)
