"""Every posterior method against its row of a table of published and independently computed numbers: two pixels, data
~ N(0, [[1, .8], [.8, 1]]), the first measured as 1.5 with noise of .1, the linear schedule with T = 1000 and skipped
steps, 20,000 samples there, fewer here.
"""

import math
from itertools import pairwise

import pytest
import torch
from restoration_worlds import OneStream, correlated_pair

from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser
from restoration.base import Cost, Method, Unsupported
from restoration.daps import DAPS
from restoration.ddnm import DDNM
from restoration.ddrm import DDRM
from restoration.diffpir import DiffPIR
from restoration.dps import DPS
from restoration.drp_denoiser import DenoisingDRP
from restoration.pigdm import PiGDM
from restoration.pnp_flow import PnPFlow
from restoration.red_diff import REDDiff
from restoration.repaint import RePaint
from restoration.score_ald import ScoreALD
from restoration.sdedit import SDEdit
from studies.oracle.worlds import FlowPrior

PRIOR = correlated_pair()
OPTIONS = {"clip": False}
SKIPPED = {**OPTIONS, "spacing": "leading"}


pytestmark = pytest.mark.filterwarnings("ignore:y spans")


def measured(sigma: float) -> Measurement:
    return Measurement(
        y=torch.tensor([[[[1.5, 0.0]]]], dtype=torch.float64),
        operator=Mask(torch.tensor([[1.0, 0.0]]), channels=1),
        noise=GaussianNoise(sigma=sigma),
        index=(0,),
    )


def row(method: Method, sigma: float, samples: int = 4000) -> list[float]:
    """Mean and standard deviation of both pixels, and the root mean square of A x - y."""
    found = method.restore(measured(sigma), num_samples=samples, random=OneStream(1)).samples[0].flatten(1)
    return [*found.mean(0).tolist(), *found.std(0).tolist(), float((found[:, 0] - 1.5).square().mean().sqrt())]


ROWS = {
    "ddrm-20": (lambda prior: DDRM(prior=prior, steps=20, **SKIPPED), [1.432, 0.74, 0.132, 0.577, 0.149]),
    "ddrm-100": (lambda prior: DDRM(prior=prior, steps=100, **SKIPPED), [1.478, 1.01, 0.065, 0.55, 0.069]),
    "ddrm-1000": (lambda prior: DDRM(prior=prior, steps=1000, **SKIPPED), [1.49, 1.155, 0.044, 0.53, 0.045]),
    "ddnm_plus-20": (lambda prior: DDNM(prior=prior, steps=20, **SKIPPED), [1.432, 0.74, 0.132, 0.577, 0.149]),
    "pigdm": (lambda prior: PiGDM(prior=prior, steps=1000, **SKIPPED), [1.477, 1.129, 0.1, 0.616, 0.102]),
    "diffpir-smooth": (
        lambda prior: DiffPIR(prior=prior, weight=7, zeta=0.3, **SKIPPED),
        [1.386, 0.817, 0.228, 0.689, 0.255],
    ),
    "diffpir": (lambda prior: DiffPIR(prior=prior, weight=1, zeta=1, **SKIPPED), [1.482, 1.068, 0.062, 0.44, 0.064]),
    "daps-slow": (
        lambda prior: DAPS(prior=prior, inner="langevin", step_size=0.01, **OPTIONS),
        [1.059, 0.719, 0.442, 0.688, 0.625],
    ),
    "daps": (
        lambda prior: DAPS(prior=prior, inner="langevin", step_size=0.1, **OPTIONS),
        [1.452, 1.082, 0.179, 0.658, 0.185],
    ),
    "daps-fast": (
        lambda prior: DAPS(prior=prior, inner="langevin", step_size=0.5, **OPTIONS),
        [1.487, 1.113, 0.114, 0.771, 0.115],
    ),
    "score_ald": (lambda prior: ScoreALD(prior=prior, **OPTIONS), [1.475, 0.978, 0.106, 0.692, 0.109]),
    "score_ald-ancestral": (
        lambda prior: ScoreALD(prior=prior, rule="ancestral", **OPTIONS),
        [1.292, 0.652, 0.254, 0.798, 0.328],
    ),
    "score_ald-rising": (
        lambda prior: ScoreALD(prior=prior, rule="ancestral", gamma=(10, 15), **OPTIONS),
        [1.093, 0.564, 0.424, 0.837, 0.588],
    ),
    "red_diff": (lambda prior: REDDiff(prior=prior, learning_rate=0.02, **OPTIONS), [1.5, 0.992, 0.003, 0.104, 0.003]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_with_noise(name):
    make, expected = ROWS[name]
    # Daps's many inner steps are dear: fewer samples, with three standard errors of their mean on top.
    samples = 1500 if name.startswith("daps") else 4000
    found = row(make(PRIOR), 0.1, samples)
    assert found == pytest.approx(expected, abs=0.03 + 1.2 / samples**0.5), found


CLEAN = {
    "ddnm": (lambda prior: DDNM(prior=prior, steps=100, **SKIPPED), [1.5, 1.107, 0.0, 0.532, 0.0]),
    "ddnm-1000": (lambda prior: DDNM(prior=prior, steps=1000, **SKIPPED), [1.5, 1.179, 0.0, 0.527, 0.0]),
    "ddnm-travel": (
        lambda prior: DDNM(prior=prior, steps=100, travel_repeats=10, **SKIPPED),
        [1.5, 1.184, 0.0, 0.494, 0.0],
    ),
    "repaint-1": (lambda prior: RePaint(prior=prior, jump_repeats=1, **SKIPPED), [1.5, 0.749, 0.01, 0.694, 0.01]),
    "repaint-2": (lambda prior: RePaint(prior=prior, jump_repeats=2, **SKIPPED), [1.5, 0.940, 0.01, 0.635, 0.01]),
    "repaint-5": (lambda prior: RePaint(prior=prior, jump_repeats=5, **SKIPPED), [1.5, 1.091, 0.01, 0.6, 0.01]),
    "repaint-10": (lambda prior: RePaint(prior=prior, jump_repeats=10, **SKIPPED), [1.5, 1.154, 0.01, 0.575, 0.01]),
}


#: Rows whose method and step stand in a shorter one too.
LONG = {"daps-slow", "daps-fast", "ddnm-1000", "ddnm-travel", "repaint-2", "repaint-5", "repaint-10"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_without_noise(name):
    make, expected = CLEAN[name]
    found = row(make(PRIOR), 0.0)
    assert found == pytest.approx(expected, abs=0.03), found


class InformedPiGDM(PiGDM):
    """r^2 I replaced by the covariance of x0 given x, (S^-1 + I / sigma^2)^-1."""

    def pull(self, problem, x0, sigma):
        s = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
        v = torch.linalg.inv(torch.linalg.inv(s) + torch.eye(2).double() / sigma**2)
        return problem.operator.adjoint(problem.y - problem.operator(x0)) / (v[0, 0] + problem.sigma**2)


@pytest.mark.slow
def test_pigdm_with_the_true_covariance_draws_from_the_posterior():
    """Mean (1.485, 1.188) and standard deviations (.100, .605), at 1000 steps .096 and .602."""
    found = row(InformedPiGDM(prior=PRIOR, steps=1000, **SKIPPED), 0.1)
    assert found == pytest.approx([1.485, 1.188, 0.096, 0.602, 0.097], abs=0.03), found


class PlainlyWeighted(DPS):
    """x' - (sigma^2 - sigma'^2) grad |y - A x0|^2 / (2 sigma_y^2): the likelihood as it stands, as if x0 were certain;
    beta / sqrt(alpha) of its gradient in variance preserving units.
    """

    def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            outcome = self.sampler.step(predict, x, sigma, sigma_next, prepared.memory, noise)
            misfit = (problem.y - problem.operator(outcome.prediction.x0)).square().sum() / (2 * problem.sigma**2)
            (gradient,) = torch.autograd.grad(misfit, x)
        return outcome.x - (sigma**2 - sigma_next**2) * gradient, outcome.prediction.x0


@pytest.mark.slow
def test_dps_with_the_plain_likelihood_weight_is_too_sure():
    found = row(PlainlyWeighted(prior=PRIOR, **OPTIONS), 0.1)
    assert found == pytest.approx([1.501, 1.468, 0.066, 0.546, 0.066], abs=0.03), found


@pytest.mark.slow
def test_the_exact_conditional_score_draws_from_the_posterior():
    """Ancestral steps from pure noise with the denoiser of the posterior N(m, C) itself."""
    s = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    gain = s[:, 0] / (s[0, 0] + 0.01)
    exact = GaussianDenoiser(mean=1.5 * gain, covariance=s - torch.outer(gain, s[0]), data_shape=(1, 1, 2))
    found = row(SDEdit(prior=exact, start=1.0, **OPTIONS), 0.1)
    assert found == pytest.approx([1.485, 1.188, 0.096, 0.602, 0.097], abs=0.03), found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in (*ROWS, *CLEAN) if name not in LONG])
def test_a_flow_prior_draws_the_same_samples(name):
    """At the same levels and with the same noise, so that the rows are those of a flow too."""
    make, sigma = (ROWS[name][0], 0.1) if name in ROWS else (CLEAN[name][0], 0.0)
    drawn = [
        make(prior).restore(measured(sigma), num_samples=8, random=OneStream(1)).samples
        for prior in (PRIOR, FlowPrior(PRIOR, own_times=False))
    ]
    torch.testing.assert_close(drawn[0], drawn[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("total", "length", "repeats", "calls"), [(100, 10, 10, 910), (100, 10, 5, 460), (50, 5, 5, 230), (250, 10, 1, 250)]
)
def test_repaint_makes_the_calls_of_its_code(total, length, repeats, calls):
    method = RePaint(prior=PRIOR, steps=total, jump_length=length, jump_repeats=repeats)
    assert method.calls() == Cost(nfe=calls)
    levels = method.levels()
    rises = sum(b > a for a, b in pairwise(levels))
    assert rises == (calls - total) // length and len(levels) == calls + rises + 1
    assert RePaint(prior=PRIOR).calls() == Cost(nfe=2410)


def test_a_travel_walks_each_stretch_that_often():
    walked = DDNM(prior=PRIOR, steps=5, travel_length=2, travel_repeats=2, spacing="leading")
    a, b, c, d, e, end = walked.sigmas.tolist()
    assert walked.levels() == [a, b, c, a, b, c, d, e, c, d, e, end, e, end]
    assert walked.calls() == Cost(nfe=10)


def test_what_they_refuse():
    noisy = measured(0.1)
    with pytest.raises(Unsupported, match="repaint needs a measurement without noise"):
        RePaint(prior=PRIOR).check(noisy.operator, noisy.noise)
    for make, message in (
        (lambda: DDRM(prior=PRIOR, eta=2), "eta"),
        (lambda: DDNM(prior=PRIOR, eta=-1), "eta"),
        (lambda: DDNM(prior=PRIOR, travel_length=0), "travel_length"),
        (lambda: DiffPIR(prior=PRIOR, zeta=2), "zeta"),
        (lambda: DiffPIR(prior=PRIOR, weight=0), "weight"),
        (lambda: RePaint(prior=PRIOR, jump_repeats=0), "jump_repeats"),
        (lambda: ScoreALD(prior=PRIOR, gamma=-1), "gamma"),
        (lambda: ScoreALD(prior=PRIOR, rule="other"), "rule"),
        (lambda: DAPS(prior=PRIOR, step_size=2), "step_size"),
        (lambda: DAPS(prior=PRIOR, inner="other"), "inner"),
        (lambda: REDDiff(prior=PRIOR, weight=-1), "weight"),
        (lambda: ScoreALD(prior=PRIOR, steps=0), "steps be at least 1"),
        (lambda: ScoreALD(prior=PRIOR, sigma_start=900, sigma_end=500), r"157\.4 between them, .* got 900 and 500"),
        (lambda: DAPS(prior=PRIOR, sigma_start=0.001, sigma_end=0.0005), r"leave some of 0\.01 \.\. "),
        *(
            (lambda cls=cls, option=option, value=value: cls(prior=PRIOR, **{option: value}), option)
            for cls, option in (
                (DPS, "scale"),
                (DPS, "relative_scale"),
                (DiffPIR, "weight"),
                (DiffPIR, "least_sigma_255"),
                (DAPS, "least_sigma_255"),
                (PnPFlow, "power"),
                (REDDiff, "weight"),
                (REDDiff, "learning_rate"),
                (DenoisingDRP, "weight"),
            )
            for value in (math.inf, math.nan)
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("rule", ["langevin", "ancestral"])
def test_score_ald_does_not_divide_by_nothing(rule):
    method = ScoreALD(prior=PRIOR, rule=rule, gamma=(15, 0), steps=3)
    noisy, clean = measured(0.1), measured(0.0)
    method.check(noisy.operator, noisy.noise)
    with pytest.raises(Unsupported, match="score_ald needs gamma above 0 at both ends, or noise to divide by, and"):
        method.check(clean.operator, clean.noise)


def test_red_diff_without_a_measured_pixel_is_finite():
    nothing = Measurement(
        y=torch.zeros(1, 1, 1, 2, dtype=torch.float64),
        operator=Mask(torch.zeros(1, 2), channels=1),
        noise=GaussianNoise(sigma=0.1),
        index=(0,),
    )
    assert REDDiff(prior=PRIOR, steps=3).restore(nothing, random=OneStream(1)).samples.isfinite().all()
