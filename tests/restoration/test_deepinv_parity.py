"""DPS, DDRM and DiffPIR beside deepinv 0.5: the same denoiser, operator, measurement and noise give the same step where
the algorithms agree by definition, and where they do not, the difference is what the docstring says.

deepinv's images lie in [0, 1]: levels there are half of those here, and y = A x becomes (y + A 1) / 2.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.circular_blur import CircularGaussianBlur
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import MixtureDenoiser
from diffusion.samplers.base import predictor
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.ddrm import DDRM
from restoration.diffpir import DiffPIR
from restoration.dps import guided_step
from restoration.posterior import PosteriorSampler, Problem

dinv = pytest.importorskip("deepinv")

SHAPE, IMAGES, SIGMA = (1, 8, 8), 2, 0.1
RAMP = torch.linspace(-0.5, 0.4, 64, dtype=torch.float64)
#: Not Gaussian, so that the denoiser is not linear; dark enough that deepinv's one-sided clipping of DPS does nothing.
PRIOR = MixtureDenoiser(weights=[0.5, 0.5], means=[RAMP - 0.2, -RAMP - 0.2], covariances=[0.05, 0.02], data_shape=SHAPE)
OPERATORS = {
    "mask": Mask((torch.arange(64) % 3 > 0).float().view(8, 8), channels=1),
    "blur": CircularGaussianBlur(std=0.45).operator_for(SHAPE, [0], RandomStreams(0)),
}


class Theirs(nn.Module):
    """Our denoiser as deepinv calls one; keeps what it was shown, in [-1, 1] units."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, sigma: Tensor | float, **_: object) -> Tensor:
        x = 2 * x - 1
        self.seen.append(x.detach().clone())
        level = 2 * torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
        return (PRIOR.predict(x, level).x0 + 1) / 2


class Fixed:
    """Noise that is given, one batch after the other."""

    def __init__(self, batches: list[Tensor]) -> None:
        self._left = list(batches)

    def next(self) -> Tensor:
        return self._left.pop(0)


def normal(stream: str, shape: tuple[int, ...] = (IMAGES, *SHAPE)) -> Tensor:
    return RandomStreams(3).normal(stream, 0, 0, shape).double()


def measured(operator: Operator) -> Measurement:
    x = torch.stack([RAMP - 0.2, -RAMP - 0.2]).view(-1, *SHAPE) + 0.15 * normal("images")
    noise = normal("noise") if operator.mask is None else normal("noise") * operator.mask
    return Measurement(
        y=operator(x) + SIGMA * noise, operator=operator, noise=GaussianNoise(sigma=SIGMA), index=tuple(range(IMAGES))
    )


def physics_of(operator: Operator):
    """A by its singular value decomposition, with noise of the same level, in [0, 1] units."""
    svd = operator.svd
    assert svd is not None
    return dinv.physics.DecomposablePhysics(
        U=svd.u,
        U_adjoint=svd.ut,
        V=lambda c: svd.v(c).view(-1, *SHAPE),
        V_adjoint=svd.vt,
        mask=svd.singular_values.view(1, -1).double(),
        noise_model=dinv.physics.GaussianNoise(SIGMA / 2),
    )


def in_their_units(measurement: Measurement) -> Tensor:
    return (measurement.y + measurement.operator(torch.ones(1, *SHAPE, dtype=torch.float64))) / 2


def walked(method: PosteriorSampler, measurement: Measurement, x: Tensor, levels: list[float], z: list[Tensor]):
    """Our x at every level from the first one on."""
    problem, predict = Problem(measurement, 1, RandomStreams(0)), predictor(PRIOR, clip=method.clip)
    prepared, found = method.begin(problem), [x]
    for (sigma, following), fresh in zip(pairwise(levels), z, strict=True):
        found.append(method.step(problem, prepared, predict, found[-1], sigma, following, Fixed([fresh]))[0])  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("name", OPERATORS)
def test_ddrm(name, monkeypatch):
    """The same at every level, eta = 0.85, eta_b = 1, through all three cases of the step. Theirs differs by

    - dividing every fresh noise by sqrt(2), which halves its variance: made up for here by sqrt(2) times as much;
    - beginning at black (0 of [0, 1]) where nothing is measured, and at sigma 1 of [0, 1], which is 2 here: too little
      noise to hide that;
    - 1e-6 in divisors, and taking components with s <= sigma_y, in [0, 1] units, for lost (there are none here);
    - giving the prior's estimate of measured components in the end where there is no noise, as the released code.
    """
    operator = OPERATORS[name]
    measurement, theirs = measured(operator), Theirs()
    levels = [20.0, 4.0, 1.2, 0.4, 0.15, 0.08, 0.04]
    z = [normal(f"step {i}") for i in range(len(levels))]
    svd = operator.svd
    assert svd is not None
    injected = Fixed([math.sqrt(2) * svd.vt(noise) for noise in z])
    monkeypatch.setattr(torch, "randn_like", lambda _: injected.next())
    model = dinv.sampling.DDRM(denoiser=theirs, sigmas=[level / 2 for level in levels], eta=0.85, etab=1.0)
    end = 2 * model(in_their_units(measurement), physics_of(operator)) - 1
    method = DDRM(prior=PRIOR, steps=5, eta=0.85, eta_b=1.0, clip=False)
    ours = walked(method, measurement, theirs.seen[0], levels, z[1:])
    for x, y in zip(ours, theirs.seen, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-4)
    last = PRIOR.predict(ours[-1], torch.full((IMAGES,), levels[-1])).x0
    torch.testing.assert_close(last, end, rtol=0, atol=1e-4)
    # Where our chain would begin: around y where it is measured, and around mid-grey where it is not.
    start = DDRM(prior=PRIOR, clip=False)
    start.sigmas = torch.tensor(levels, dtype=torch.float64)
    monkeypatch.setattr(Problem, "normal", lambda *_: z[0])
    problem = Problem(measurement, 1, RandomStreams(0))
    missing = 0 if operator.mask is None else 1 - operator.mask
    torch.testing.assert_close(
        start.start(problem, start.begin(problem)) - missing, theirs.seen[0], rtol=0, atol=1e-4 * levels[0]
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_diffpir(name, monkeypatch):
    """The same at every level with our weight at half of their lambda. Theirs differs by

    - the proximal step, which minimises |y - A x|^2 + 2 rho |x - x0|^2: their lambda counts twice, so that 7 there is
      3.5 here, and 1.75 in the released code;
    - beginning at A^T y, whose noise counts as part of the first level's, where ours begins in pure noise;
    - giving x at the last level, noise of 0.01 included, in place of the denoiser's last answer, which is not used.
    """
    operator, zeta, weight = OPERATORS[name], 0.3, 3.5
    measurement, theirs = measured(operator), Theirs()
    z = [normal(f"step {i}") for i in range(6)]
    fresh = Fixed(z)
    monkeypatch.setattr(torch, "randn_like", lambda _: fresh.next())
    model = dinv.sampling.DiffPIR(theirs, dinv.optim.L2(), max_iter=6, zeta=zeta, lambda_=2 * weight)
    physics = physics_of(operator)
    end = 2 * model(in_their_units(measurement), physics) - 1
    levels = [float(model.sigmas[i]) for i in model.seq]
    method = DiffPIR(prior=PRIOR, steps=5, weight=weight, zeta=zeta, clip=True)
    ours = walked(method, measurement, theirs.seen[0], levels, z[1:])
    for x, y, level in zip(ours, theirs.seen, levels, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-4 * math.sqrt(1 + level**2))
    assert levels[-1] == pytest.approx(0.01, rel=0.01)
    torch.testing.assert_close(ours[-1] / math.sqrt(1 + levels[-1] ** 2), end, rtol=0, atol=1e-4)


TIMES = [(1.0, 0.9), (0.6, 0.5), (0.3, 0.25), (0.1, 0.05), (0.02, 0.01)]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", OPERATORS)
def test_dps(name, times, monkeypatch):
    """One ancestral step along their schedule with our scale at weight (sigma^2 - sigma'^2) / (2 sqrt((1 + sigma^2) (1
    + sigma'^2))). Theirs differs by

    - where the gradient goes: into the score, so that a step of theirs moves by weight * beta / 2 of it where the paper
      and its code move by the same scale in every step, early and late. Over a whole run the steps of weight 1, their
      default, sum to 5, and those of the paper's code, 0.5 in each of 1000, to 500;
    - clipping x0 to [-1, 1] before the residual is taken in [0, 1] units: bright values are clipped, dark ones are not
      (nothing is clipped here);
    - levels of the continuous schedule in place of the thousand of the table.
    """
    operator, weight = OPERATORS[name], 300.0
    measurement, theirs = measured(operator), Theirs()
    model = dinv.sampling.DPS(theirs, weight=weight, num_steps=10)
    t0, t1 = (torch.tensor(t, dtype=torch.float64) for t in times)
    (s0, sigma), (s1, following) = ((float(model.sde.scale_t(t)), float(model.sde.sigma_t(t))) for t in (t0, t1))
    x, z = RAMP.view(1, *SHAPE) - 0.2 + sigma * normal("x"), normal("z")
    monkeypatch.setattr(model.solver, "randn_like", lambda _: z)
    found, _ = model.solver.step(
        model.posterior, t0, t1, s0 * x, y=in_their_units(measurement), physics=physics_of(operator)
    )
    assert s0 == pytest.approx((1 + sigma**2) ** -0.5)
    scale = weight / 2 * (sigma**2 - following**2) * s0 * s1
    ours, _ = guided_step(
        AncestralDDPM(),
        predictor(PRIOR, clip=False),
        x,
        sigma,
        following,
        None,
        Fixed([z]),  # type: ignore[arg-type]
        operator=operator,
        y=measurement.y,
        scale=scale,
    )
    torch.testing.assert_close(s1 * ours.x, found.detach(), rtol=0, atol=1e-4)


def test_the_steps_of_deepinvs_dps_sum_to_five():
    """weight / 2 times the integral of beta, 0.1 .. 20."""
    sde = dinv.sampling.DPS(Theirs(), num_steps=10).sde
    times = torch.linspace(1, 0, 1001, dtype=torch.float64)
    steps = [(float(sde.scale_t(t)), float(sde.sigma_t(t))) for t in times]
    total = sum(0.5 * (a**2 - b**2) * s * r for (s, a), (r, b) in pairwise(steps))
    assert total == pytest.approx(5.0, abs=0.1)
