"""The order that a docstring claims, measured in float64 against the exact probability flow of Gaussian data, down to
the smallest level.
"""

import math
from itertools import pairwise

import pytest
import torch

from diffusion.levels import karras_sigmas
from diffusion.samplers.base import Sampler, predictor
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from tests.diffusion.tools import COVARIANCE, SHAPE, gaussian, normal, output_moments

STEPS = (80, 160, 320)
GRIDS = {
    "karras": lambda steps: karras_sigmas(steps + 1, 0.01, 80.0)[:-1],
    "logarithmic": lambda steps: torch.logspace(math.log10(80), -2, steps + 1, dtype=torch.float64),
}


def end_point_error(sampler: Sampler, sigmas: torch.Tensor) -> float:
    denoiser = gaussian()
    levels = sigmas.tolist()
    start = x = levels[0] * normal(5, *SHAPE)
    predict, memory = predictor(denoiser, clip=False), sampler.start([*levels, 0.0])
    for sigma, sigma_next in pairwise(levels):
        outcome = sampler.step(predict, x, sigma, sigma_next, memory, None)
        x, memory = outcome.x, outcome.memory
    return float((x - denoiser.flow(start, levels[0], levels[-1])).abs().max())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("sampler", "order"), [(DDIM(), 1), (DPMSolverPP2M(), 2), (Heun(), 2)], ids=["ddim", "dpm_solver_pp", "heun"]
)
def test_deterministic_order(sampler, order, grid):
    errors = [end_point_error(sampler, GRIDS[grid](steps)) for steps in STEPS]
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert sampler.order == order
    # The next term of the error is still visible at these steps: 0.98 .. 1.00 and 1.99 .. 2.04 were measured.
    assert measured == pytest.approx([order, order], abs=0.06)
    # The error itself is small: a formula that is consistent but wrong in its constant would have the order and not
    # this. Scale: sd of the data 0.5.
    assert errors[-1] < {1: 8e-3, 2: 2e-4}[order]


@pytest.mark.parametrize(
    "sampler", [AncestralDDPM(), AncestralDDPM(variance="fixed_large"), DDIM(eta=1.0)], ids=["small", "large", "ddim_1"]
)
def test_ancestral_order_in_distribution(sampler):
    """The error of the exact output covariance falls as 1 / steps: 0.93 .. 1.02 were measured."""
    errors = []
    for steps in (100, 200, 400):
        _, covariance = output_moments(sampler, gaussian(), karras_sigmas(steps, 0.01, 157.0))
        errors.append(float((covariance - COVARIANCE).abs().max()))
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert sampler.order == 1 and measured == pytest.approx([1, 1], abs=0.15)
