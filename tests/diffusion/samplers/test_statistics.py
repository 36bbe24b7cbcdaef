"""What samplers draw: the data's mean and covariance, and a mixture's weights."""

import pytest
import torch

from common.random_streams import RandomStreams
from diffusion.closed_form import GaussianDenoiser, MixtureDenoiser
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import predictor
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from tests.diffusion.tools import COVARIANCE, MEAN, SHAPE, Scripted, gaussian, normal, output_moments

# (sampler, levels, spacing, bound of the covariance error). The moments are exact, so the bounds are errors of
# discretisation alone: about twice what was measured, against entries of up to 0.3. First-order samplers need many
# levels, ancestral with the small variance most.
CASES = {
    "ddpm": (AncestralDDPM(), 1000, "linspace", 8e-3),
    "ddpm_large": (AncestralDDPM(variance="fixed_large"), 1000, "linspace", 1.5e-3),
    "ddim": (DDIM(), 1000, "linspace", 3.5e-3),
    "ddim_half": (DDIM(eta=0.5), 1000, "trailing", 4.5e-3),
    "ddim_few": (DDIM(), 100, "trailing", 3e-2),
    "dpm_solver_pp": (DPMSolverPP2M(), 50, "trailing", 5e-3),
    "dpm_solver_pp_karras": (DPMSolverPP2M(), 50, "karras", 6e-3),
    "heun": (Heun(), 50, "karras", 6e-3),
    "heun_churn": (Heun(churn=20.0), 100, "karras", 7e-3),
}


@pytest.mark.parametrize("case", CASES)
def test_gaussian_data(case):
    sampler, steps, spacing, bound = CASES[case]
    denoiser = gaussian()
    mean, covariance = output_moments(sampler, denoiser, spaced_sigmas(denoiser, steps, spacing))
    assert float((covariance - COVARIANCE).abs().max()) < bound
    # Pure noise instead of data + noise at the start: the flow keeps mean sd / sigma_max = 0.3 * 0.55 / 80 = 2e-3 of
    # that forever; noise forgets it.
    assert float((mean - MEAN).abs().max()) < 2.2e-3


def test_dpm_solver_wants_trailing_times():
    """Covariance error 0.02 with trailing times, 0.14 with linspace: h of the last step to t = 0 is 2.9 and that before
    it 0.66.
    """
    denoiser = gaussian()
    errors = {}
    for spacing in ("trailing", "linspace", "leading"):
        _, covariance = output_moments(DPMSolverPP2M(), denoiser, spaced_sigmas(denoiser, 20, spacing))
        errors[spacing] = float((covariance - COVARIANCE).abs().max())
    assert errors["trailing"] < 0.04 < 0.1 < min(errors["linspace"], errors["leading"])


def level_covariance(sampler, denoiser, levels):
    """The covariance [3, 3] of x at the last of `levels`, from x ~ N(mean, S + levels[0]^2) at the first: exact, by
    unit vectors as in the tools.
    """
    predict, steps = predictor(denoiser, clip=False), len(levels) - 1
    start = torch.linalg.cholesky(denoiser.data.covariance() + levels[0] ** 2 * torch.eye(3, dtype=torch.float64))
    total = torch.zeros(3, 3, dtype=torch.float64)
    for source in range(steps + 1):
        for d in range(3):
            unit = torch.eye(3, dtype=torch.float64)[d].view(1, 1, 1, 3)
            zero = torch.zeros_like(unit)
            x = denoiser.data.mean.view(1, 1, 1, 3) + (start[:, d].view(1, 1, 1, 3) if source == 0 else 0)
            noise = Scripted([unit if source == k + 1 else zero for k in range(steps)])
            for k in range(steps):
                x = sampler.step(predict, x, levels[k], levels[k + 1], None, noise).x
            column = x.flatten() - denoiser.data.mean
            total += torch.outer(column, column)
    return total


@pytest.mark.parametrize(("variance", "spread"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_where_the_two_variances_are_exact(variance, spread):
    """The small variance is right for data in one point, the large one for standard normal data (Ho et al., section
    3.2), with any number of steps.
    """
    denoiser = GaussianDenoiser(mean=0.2, covariance=spread, data_shape=SHAPE)
    levels = [100.0, 20.0, 3.0, 0.4, 0.05]
    found = level_covariance(AncestralDDPM(variance=variance), denoiser, levels)
    torch.testing.assert_close(
        found, (spread + levels[-1] ** 2) * torch.eye(3, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


# Two components that overlap little; 2000 draws. The share of one has standard error sqrt(.3 * .7 / 2000) = 0.0102, its
# mean sqrt(0.06 / 600) = 0.01; four of them, and nothing more for the discretisation (less than 0.005 here).
WEIGHTS, MEANS = [0.3, 0.7], [[-0.7, -0.4], [0.5, 0.4]]
SPREADS = [[[0.02, 0.01], [0.01, 0.03]], [[0.06, -0.02], [-0.02, 0.04]]]
MIXED = {
    "ddpm": (AncestralDDPM(), 250, "trailing"),
    "ddim": (DDIM(), 100, "trailing"),
    "ddim_half": (DDIM(eta=0.5), 100, "trailing"),
    "dpm_solver_pp": (DPMSolverPP2M(), 40, "trailing"),
    "heun": (Heun(), 30, "karras"),
    "heun_churn": (Heun(churn=10.0), 40, "karras"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MIXED)
def test_a_mixture_keeps_its_weights(case):
    sampler, steps, spacing = MIXED[case]
    denoiser = MixtureDenoiser(weights=WEIGHTS, means=MEANS, covariances=SPREADS, data_shape=(1, 1, 2))
    levels, count = spaced_sigmas(denoiser, steps, spacing), 2000
    start = float(levels[0]) * normal(count, 1, 1, 2)
    with RandomStreams(3).sequence("mixture", range(count), [0] * count, (1, 1, 2)) as noise:
        drawn = sampler.sample(denoiser, start, levels, noise=noise if sampler.stochastic else None, clip=False)
    share = denoiser.responsibilities(drawn, torch.full((count,), denoiser.sigma_min, dtype=torch.float64))
    assert share.mean(0).tolist() == pytest.approx(WEIGHTS, abs=4 * 0.0102)
    means = (share.T @ drawn.flatten(1)) / share.sum(0)[:, None]
    torch.testing.assert_close(means, torch.tensor(MEANS, dtype=torch.float64), rtol=0, atol=4 * 0.01)
