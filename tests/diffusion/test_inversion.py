"""DDIM inversion: the order of its error, its fixed point, and the round trip on Gaussian data, where the flow is a
formula.
"""

import math
from itertools import pairwise

import pytest
import torch

from diffusion.closed_form import GaussianDenoiser
from diffusion.inversion import invert
from diffusion.levels import karras_sigmas
from diffusion.samplers.ddim import DDIM

MEAN, VARIANCE = 0.3, 0.25
DENOISER = GaussianDenoiser(mean=MEAN, covariance=VARIANCE, data_shape=(1, 4, 4))


def images() -> torch.Tensor:
    return MEAN + math.sqrt(VARIANCE) * torch.randn(
        3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def test_it_follows_the_flow_with_order_one():
    """The flow of Gaussian data is x(sigma) - m = (x(0) - m) sqrt((S + sigma^2) / S)."""
    exact = MEAN + (images() - MEAN) * math.sqrt((VARIANCE + 100) / VARIANCE)
    steps = [64, 128, 256, 512]
    errors = [float((invert(DENOISER, images(), karras_sigmas(n, 0.002, 10.0)) - exact).abs().max()) for n in steps]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(0.9 < s < 1.1 for s in slopes), (errors, slopes)


def test_refined_it_is_the_inverse_of_the_sampler():
    sigmas = karras_sigmas(12, 0.01, 10.0)
    back = [
        DDIM().sample(DENOISER, invert(DENOISER, images(), sigmas, refinements=k), sigmas, clip=False) for k in (0, 40)
    ]
    plain, refined = (float((b - images()).abs().max()) for b in back)
    assert plain > 1e-2 and refined < 1e-9, (plain, refined)


def test_it_counts_its_calls_and_refuses_nonsense():
    seen = []
    invert(DENOISER, images(), karras_sigmas(5, 0.01, 10.0), on_step=lambda i, x: seen.append(i))
    assert seen == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="refinements"):
        invert(DENOISER, images(), karras_sigmas(5, 0.01, 10.0), refinements=-1)
    with pytest.raises(ValueError, match="end in 0"):
        invert(DENOISER, images(), torch.tensor([3.0, 1.0]))
