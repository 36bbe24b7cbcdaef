"""What is drawn from the levels that are made for a sampler: over samplers, spacings, schedules, numbers of steps."""

import itertools
import math

import pytest
import torch

from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import Denoiser
from diffusion.levels import SPACINGS, karras_sigmas, spaced_sigmas
from diffusion.samplers.base import Sampler, predictor
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from diffusion.schedules import Cosine, Linear, ScaledLinear
from tests.diffusion.tools import COVARIANCE, MEAN, SHAPE, Scripted, gaussian, normal, output_moments

SAMPLERS = {
    "ddpm": AncestralDDPM(),
    "ddpm_large": AncestralDDPM(variance="fixed_large"),
    "ddim": DDIM(),
    "ddim_half": DDIM(eta=0.5),
    "dpm_solver_pp": DPMSolverPP2M(),
    "heun": Heun(),
    "heun_churn": Heun(churn=5.0, s_max=50.0),
}
SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "scaled_linear": ScaledLinear()}
LISTS = list(itertools.product(SCHEDULES, SPACINGS, (12, 18, 50, 200)))


def rms_after_first_step(sampler: Sampler, denoiser: Denoiser, levels: torch.Tensor) -> float:
    """Of x - mean, from pure noise at the first level: exact, a step is affine in x and in its noise."""
    dimension = math.prod(SHAPE)
    rows = torch.zeros(1 + 2 * dimension, dimension, dtype=torch.float64)
    start, fresh = rows.clone(), rows.clone()
    start[1 : 1 + dimension] = float(levels[0]) * torch.eye(dimension, dtype=torch.float64)
    fresh[1 + dimension :] = torch.eye(dimension, dtype=torch.float64)
    x = sampler.step(
        predictor(denoiser, clip=False),
        start.view(-1, *SHAPE),
        float(levels[0]),
        float(levels[1]),
        sampler.start(levels.tolist()),
        Scripted([fresh.view(-1, *SHAPE)]),
    ).x.flatten(1)
    return float((x[1:] - x[0]).square().sum() / dimension) ** 0.5


@pytest.mark.parametrize(("schedule", "spacing", "steps"), LISTS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_first_step(name, schedule, spacing, steps):
    """x has the rms of data + noise at the next level. From the cosine schedule's last level, 20291, to 11.4 Heun's
    step left 2.4 times as much, and clipped estimates eight times.
    """
    sampler, denoiser = SAMPLERS[name], gaussian(SCHEDULES[schedule])
    levels = sampler.suited(spaced_sigmas(denoiser, steps, spacing))
    expected = float(COVARIANCE.trace() / 3 + levels[1] ** 2) ** 0.5
    assert rms_after_first_step(sampler, denoiser, levels) == pytest.approx(expected, rel=0.03)


#: Errors of the covariance, of entries up to 0.3, at 50 steps: about one and a half times the largest over schedules.
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", ("trailing", "karras", "linspace"))
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_drawn(name, spacing, schedule):
    sampler, denoiser = SAMPLERS[name], gaussian(SCHEDULES[schedule])
    mean, covariance = output_moments(sampler, denoiser, sampler.suited(spaced_sigmas(denoiser, 50, spacing)))
    bound = {"ddpm": 0.1, "ddpm_large": 0.08, "ddim": 0.05, "ddim_half": 0.06}.get(name, 0.02)
    if name == "dpm_solver_pp" and spacing == "linspace":
        bound = 0.05  # it extrapolates over the long last step
    assert float((covariance - COVARIANCE).abs().max()) < bound
    assert float((mean - MEAN).abs().max()) < 0.015


@pytest.mark.parametrize("name", [n for n in SAMPLERS if not n.startswith("heun")])
@pytest.mark.parametrize(("schedule", "spacing", "steps"), LISTS)
def test_samplers_that_do_not_average_keep_their_levels(name, schedule, spacing, steps):
    levels = spaced_sigmas(gaussian(SCHEDULES[schedule]), steps, spacing)
    assert torch.equal(SAMPLERS[name].suited(levels), levels)


@pytest.mark.parametrize(("schedule", "spacing", "steps"), LISTS)
def test_heun_begins_at_80_at_most(schedule, spacing, steps):
    """As in EDM; the other levels, and the number of calls, stay. A list whose second level lies above 80 is walked as
    it is: its first step is short.
    """
    spaced = spaced_sigmas(gaussian(SCHEDULES[schedule]), steps, spacing)
    levels = Heun().suited(spaced)
    assert torch.equal(levels[1:], spaced[1:])
    assert float(levels[0]) == (80.0 if spaced[0] > 80 > spaced[1] else float(spaced[0]))


@pytest.mark.parametrize(
    "levels",
    [[20291.0, 11.4, 0.1, 0.0], [80.0, 0.01, 0.0], [80.0, 3.1, 0.3, 0.0], [157.0, 3.0, 0.0]],
)
def test_a_first_step_that_is_too_long_is_refused(levels):
    """By every entry: what a list is made for, and what is drawn from it. Euler's method, of order 1, may."""
    sigmas = torch.tensor(levels, dtype=torch.float64)
    x = levels[0] * normal(2, *SHAPE)
    with pytest.raises(ValueError, match=r"first step of Heun's method, from sigma = .* take more steps"):
        Heun().sample(gaussian(), x, sigmas)
    if levels[1] < 4:
        with pytest.raises(ValueError, match="take more steps"):
            Heun().check_first_step(Heun().suited(sigmas).tolist())
    DDIM().sample(gaussian(), x, sigmas)


def test_what_is_refused_misses_and_what_is_not_does_not():
    """The verdict is of data of standard deviation 0.5: measured there by the step itself, over pairs of levels."""
    denoiser = GaussianDenoiser(mean=0.0, covariance=0.25, data_shape=SHAPE)
    seen = set()
    for first, second in itertools.product([0.5, 3.0, 20.0, 80.0, 500.0, 2e4], [0.01, 0.1, 0.4, 2.0, 8.0, 30.0, 100.0]):
        if second >= first:
            continue
        levels = torch.tensor([first, second, 0.0], dtype=torch.float64)
        # From data + noise instead of pure noise: the flow itself.
        begin, exact = ((0.25 + s**2) ** 0.5 for s in (first, second))
        error, euler = (
            abs(rms_after_first_step(s, denoiser, levels) * begin / first / exact - 1) for s in (Heun(), DDIM())
        )
        refused = error > max(0.1, euler)
        seen.add(refused)
        try:
            Heun().check_first_step(levels.tolist())
        except ValueError as why:
            assert refused, why
        else:
            assert not refused, (first, second, error)
    assert seen == {True, False}


def test_a_list_from_karras_of_eighteen_is_the_papers():
    levels = karras_sigmas(18, 0.002, 80.0)
    assert torch.equal(Heun().suited(levels), levels)


def test_churn_makes_the_first_step_longer_and_is_named_where_it_is_the_cause():
    """The end of a karras list of eight, as SDEdit walks it, with churn 3: measured, three steps draw 1.22 of the
    deviation of the data, 1.10 without churn (DDIM 0.78). So it is refused, and not by advice that was taken already.
    """
    levels = torch.tensor([1.0123, 0.41401, 0.069969, 0.0063951, 0.0], dtype=torch.float64)
    prior = GaussianDenoiser(mean=0.0, covariance=0.25, data_shape=SHAPE)
    found = {}
    for churn in (0.0, 3.0):
        sampler, count = Heun(churn=churn), 4000
        x, memory = math.sqrt(0.25 + float(levels[0]) ** 2) * normal(count, *SHAPE), sampler.start(levels.tolist())
        for seed, (sigma, following) in enumerate(itertools.pairwise(levels.tolist())):
            noise = Scripted([normal(count, *SHAPE, seed=1 + seed)])
            x = sampler.step(predictor(prior, clip=False), x, sigma, following, memory, noise).x
        found[churn] = float(x.std()) / 0.5
    assert found[0.0] == pytest.approx(1.10, abs=0.02) and found[3.0] > 1.17
    Heun().check_first_step(levels.tolist())
    with pytest.raises(ValueError, match=r"from sigma = 1\.012 to 0\.414, would miss by 17 %: .*less churn.*if it is"):
        Heun(churn=3.0).check_first_step(levels.tolist())
    with pytest.raises(ValueError, match=r"take more steps, the spacing"):
        Heun(churn=3.0).check_first_step([80.0, 3.1, 0.3, 0.0])
