"""DPS: its rows of reference 2.14, equality with the algorithm in variance preserving units, and the contract of
methods.
"""

import math

import pytest
import torch
from helpers import tiny_denoiser
from restoration_worlds import Cubed, FirstPixel, OneStream, correlated_pair, observed_first

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from diffusion.samplers.heun import Heun
from restoration.base import Unsupported
from restoration.dps import DPS, step_scales


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "mean", "deviation"),
    # Reference 2.14, "DPS 1000": code scale 0.3, 1.0, and the paper's zeta' = 1, which is scale 2. 20,000 samples,
    # tolerance 0.03 per entry.
    [
        (0.3, (1.500, 1.467), (0.173, 0.547)),
        (1.0, (1.498, 1.456), (0.563, 0.553)),
        (2.0, (1.493, 1.459), (1.096, 0.574)),
    ],
)
def test_rows_of_the_oracle(scale, mean, deviation):
    method = DPS(prior=correlated_pair(), scale=scale, clip=False)
    samples = method.restore(observed_first(), num_samples=20_000, random=OneStream(5)).samples
    assert samples.shape == (1, 20_000, 1, 1, 2)
    samples = samples.flatten(2)[0]
    assert samples.mean(0).tolist() == pytest.approx(mean, abs=0.03)
    assert samples.std(0).tolist() == pytest.approx(deviation, abs=0.03)


def test_equals_the_algorithm_in_variance_preserving_units():
    """Chung et al., algorithm 1 (the code's form), written out for x_t = sqrt(ab) x0 + sqrt(1 - ab) e with its own
    posterior coefficients.
    """
    prior, scale, steps = correlated_pair(), 0.7, 40
    n = 64
    measurement = observed_first()
    method = DPS(prior=prior, steps=steps, scale=scale, clip=False)
    result = method.restore(measurement, num_samples=n, random=OneStream(3)).samples[0]

    ab = 1 / (1 + method.sigmas[:-1] ** 2)  # levels from noisy to clean
    noise = OneStream(3)
    start = noise.normal_batch("", range(n), range(n), (1, 1, 2))
    sequence = noise.sequence("", range(n), range(n), (1, 1, 2))
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    x = (start * method.sigmas[0] * ab[0].sqrt()).view(n, 2)
    for i in range(steps):
        now, following = ab[i], ab[i + 1] if i + 1 < steps else torch.ones((), dtype=torch.float64)
        alpha = now / following
        x = x.requires_grad_(True)
        eps = (1 - now).sqrt() * x @ torch.linalg.inv(now * covariance + (1 - now) * torch.eye(2, dtype=torch.float64))
        x0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
        (gradient,) = torch.autograd.grad((1.5 - x0[:, :1]).norm(dim=1).sum(), x)
        with torch.no_grad():
            mean = following.sqrt() * (1 - alpha) / (1 - now) * x0 + alpha.sqrt() * (1 - following) / (1 - now) * x
            deviation = ((1 - alpha) * (1 - following) / (1 - now)).sqrt()
            fresh = sequence.next().view(n, 2) if i + 1 < steps else 0
            x = mean + deviation * fresh - scale * gradient
    assert torch.allclose(result.view(n, 2), x, atol=1e-9)


def test_relative_scale_counts_what_is_measured():
    """relative_scale sqrt(m) / (steps |A|): m is the kept pixels times channels of a mask, all values of any other
    measurement.
    """
    random = RandomStreams(0)
    x = torch.zeros(2, 3, 8, 8)
    for degradation, m in ((BoxMask(size=4), 3 * (64 - 16)), (AveragePool(factor=2), 3 * 16)):
        measurement = measure(x, degradation=degradation, noise=GaussianNoise(sigma=0.0), index=[0, 1], random=random)
        scales = step_scales(measurement.operator, measurement.y, 10, scale=None, relative_scale=2.0)
        assert scales.flatten().tolist() == pytest.approx([2.0 * math.sqrt(m) / (10 * measurement.operator.norm())] * 2)


def test_unmeasured_pixels_do_not_count_in_the_residual():
    """What y holds where a mask has a hole plays no role, and neither does the norm's eps at a residual of 0."""
    method = DPS(prior=tiny_denoiser(), steps=4)
    measurement = measure(
        torch.zeros(1, 1, 8, 8),
        degradation=BoxMask(size=8, margin=0),
        noise=GaussianNoise(sigma=0.1),
        index=[0],
        random=RandomStreams(0),
    )
    samples = method.restore(measurement, random=RandomStreams(0)).samples
    assert torch.isfinite(samples).all()


def test_weights_stay_frozen_and_gradients_stay_inside():
    prior = tiny_denoiser().requires_grad_(False)
    measurement = measure(
        torch.zeros(1, 1, 8, 8),
        degradation=AveragePool(factor=2),
        noise=GaussianNoise(sigma=0.1),
        index=[0],
        random=RandomStreams(0),
    )
    seen = []

    def on_step(step, total, x0):
        seen.append((step, total))
        assert not x0.requires_grad and x0.shape == (2, 1, 8, 8)

    with torch.no_grad():
        restoration = DPS(prior=prior, steps=5).restore(
            measurement, num_samples=2, random=RandomStreams(0), on_step=on_step
        )
    assert seen == [(i, 5) for i in range(5)]
    assert not restoration.samples.requires_grad
    assert all(p.grad is None for p in prior.parameters())
    assert (restoration.cost.nfe, restoration.cost.backwards) == (5, 5)
    assert len(restoration.trace["residual"]) == 5


def test_the_residual_falls():
    """With a prior that knows the data (a Gaussian), the restoration explains the measurement better than a sample of
    the prior does.
    """
    from diffusion.closed_form import GaussianDenoiser

    prior = GaussianDenoiser(mean=0.0, covariance=0.25, data_shape=(1, 8, 8))
    x = 0.5 * RandomStreams(1).normal_batch("data", [0, 1], [0, 0], (1, 8, 8))
    measurement = measure(
        x, degradation=AveragePool(factor=2), noise=GaussianNoise(sigma=0.05), index=[0, 1], random=RandomStreams(0)
    )
    restoration = DPS(prior=prior, steps=100, clip=False).restore(measurement, random=RandomStreams(0))
    residual = (measurement.operator(restoration.samples[:, 0]) - measurement.y).square().mean().sqrt()
    assert float(residual) < 0.15  # a sample of the prior: sqrt(2) * 0.25 = 0.35


def test_non_linear_operator():
    measurement = Measurement(
        y=torch.full((1, 1, 8, 8), 0.3), operator=Cubed((1, 8, 8)), noise=GaussianNoise(sigma=0.0), index=(0,)
    )
    method = DPS(prior=tiny_denoiser(), steps=4)
    method.check(measurement.operator, measurement.noise)
    assert torch.isfinite(method.restore(measurement, random=RandomStreams(0)).samples).all()


def test_other_samplers_count_their_calls():
    method = DPS(prior=correlated_pair(), steps=6, scale=0.1, clip=False, sampler=Heun())
    assert (method.calls().nfe, method.calls().backwards) == (11, 6)
    assert torch.isfinite(method.restore(observed_first(), num_samples=3, random=RandomStreams(0)).samples).all()


def test_refuses_a_prior_with_other_channels():
    with pytest.raises(Unsupported, match=r"3 channel\(s\), the images here have 1"):
        DPS(prior=tiny_denoiser((3, 8, 8)), steps=2).check(FirstPixel(), GaussianNoise(sigma=0.0))


@pytest.mark.parametrize(
    "options",
    [{"scale": 0.0}, {"scale": -1.0}, {"relative_scale": 0.0}, {"steps": 0}, {"steps": 1001}, {"spacing": "cubic"}],
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError):
        DPS(prior=correlated_pair(), **options)
