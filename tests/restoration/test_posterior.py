"""The loop of posterior samplers: what it gives a leaf, what it refuses, and that its battery tells an exact sampler
from one that is not.
"""

import inspect
import math

import pytest
import torch
from posterior_worlds import STEPS, WORLDS, ExactOnGaussians, MaskDDNM, gaussian_prior, moments
from restoration_worlds import Cubed, Flipped
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.impulse_noise import ImpulseNoise
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.random_mask import RandomMask
from diffusion.denoiser import Denoiser, Prediction
from restoration.base import Bias, Cost, Unsupported
from restoration.dps import DPS
from restoration.needs import NEEDS, unmet
from restoration.posterior import PosteriorSampler, Problem
from restoration.sdedit import SDEdit

SHAPE = (1, 4, 4)


class Halves(Denoiser):
    """x0 = x / 2, at any level: nothing that looks at a number."""

    data_shape, sigma_min, sigma_max, num_timesteps = SHAPE, 0.01, 10.0, 50

    def level_at(self, time: Tensor) -> Tensor:
        return 0.01 * 1000 ** (time.double() / 49)

    def predict(self, x, sigma, condition=None) -> Prediction:
        return Prediction(x0=x / 2, eps=x / 2 / sigma.view(-1, 1, 1, 1))


class Records(PosteriorSampler):
    """Does nothing to x but write down how it was asked."""

    def begin(self, problem: Problem) -> list:
        return []

    def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
        prepared.append((sigma, sigma_next))
        self.seen = prepared  # for the test; a leaf keeps nothing of a run in itself
        return x, predict(x, sigma).x0


class ThereAndBack(Records):
    """Down, up again, down."""

    def levels(self) -> list[float]:
        return [2.0, 0.5, 1.5, 0.0]


def measured(degradation=None, count: int = 2, sigma: float = 0.1) -> Measurement:
    x = RandomStreams(7).uniform("images", 0, 0, (count, *SHAPE)) * 2 - 1
    given = {"noise": GaussianNoise(sigma=sigma), "index": range(10, 10 + count), "random": RandomStreams(3)}
    return measure(x, degradation=degradation or Identity(), **given)


def test_a_problem_has_one_row_per_chain():
    measurement = measured(RandomMask(removed=0.5))
    problem = Problem(measurement, 3, RandomStreams(5))
    assert problem.chains.index == (10, 10, 10, 11, 11, 11) and problem.sample == [0, 1, 2, 0, 1, 2]
    assert torch.equal(problem.y, problem.per_chain(measurement.y)) and problem.sigma == 0.1
    x = torch.ones(6, *SHAPE)
    assert torch.equal(problem.operator(x), problem.per_chain(measurement.operator(torch.ones(2, *SHAPE))))
    z = problem.normal("z")
    assert torch.equal(z[4], RandomStreams(5).normal("z", 11, 1, SHAPE))
    with problem.sequence("z") as noise:
        assert torch.equal(noise.next(), z) and not torch.equal(noise.next(), z)


def test_levels_are_walked_and_the_start_is_pure_noise_of_the_first():
    method = Records(prior=Halves(), steps=5)
    assert method.levels() == method.sigmas.tolist() and method.calls() == Cost(nfe=5)
    x = method.restore(measured(), num_samples=2, random=RandomStreams(5)).samples
    assert method.seen == list(zip(method.levels(), method.levels()[1:], strict=False)) and method.levels()[-1] == 0
    assert torch.equal(x[1, 1], method.levels()[0] * RandomStreams(5).normal("records start", 11, 1, SHAPE))


def test_a_rise_is_fresh_noise_and_no_step():
    """x at 1.5 is x at 0.5 and sqrt(1.5^2 - 0.5^2) z."""
    method, seen = ThereAndBack(prior=Halves()), []
    x = method.restore(measured(), random=RandomStreams(5), on_step=lambda i, n, x0: seen.append((i, n))).samples[:, 0]
    start = 2.0 * RandomStreams(5).normal_batch("thereandback start", [10, 11], [0, 0], SHAPE)
    with RandomStreams(5).sequence("thereandback", [10, 11], [0, 0], SHAPE) as noise:
        torch.testing.assert_close(x, start + math.sqrt(2) * noise.next())
    assert method.seen == [(2.0, 0.5), (1.5, 0.0)] and seen == [(0, 2), (1, 2)] and method.calls() == Cost(nfe=2)


def test_the_trace_is_the_mean_length_of_the_residual():
    measurement, estimates = measured(AveragePool(factor=2)), []
    method = Records(prior=Halves(), steps=3)
    found = method.restore(
        measurement, num_samples=2, random=RandomStreams(5), on_step=lambda i, n, x0: estimates.append(x0)
    )
    y, operator = measurement.y.repeat_interleave(2, 0), measurement.operator
    expected = [float((y - operator(x0)).flatten(1).norm(dim=1).mean()) for x0 in estimates]
    assert found.trace == {"residual": pytest.approx(expected)}


class Differentiates(Records):
    """Gives back what still hangs on a graph."""

    def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
        assert not torch.is_grad_enabled() and not x.requires_grad
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return 2 * x, predict(x, sigma).x0


def test_gradients_are_a_steps_own_business():
    """No graph is recorded around a step, nor carried from one to the next, also where the caller records."""
    method, seen = Differentiates(prior=Halves(), steps=3), []
    with torch.enable_grad():
        found = method.restore(
            measured(), random=RandomStreams(5), on_step=lambda i, n, x0: seen.append(x0.requires_grad)
        )
    assert seen == [False] * 3 and not found.samples.requires_grad


@pytest.mark.parametrize("cls", [Records, MaskDDNM, DPS, SDEdit])
def test_no_step_waits_for_the_device(cls, monkeypatch):
    """Numbers are read off tensors as often for 30 steps as for 3."""
    measurement, waits = measured(RandomMask(removed=0.5)), []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        original = getattr(Tensor, name)

        def counted(self, *a, original=original, name=name):
            waits.append(name)
            return original(self, *a)

        monkeypatch.setattr(Tensor, name, counted)
    counts = []
    for steps in (3, 30):
        method = cls(prior=Halves(), steps=steps)
        waits.clear()
        method.restore(measurement, num_samples=2, random=RandomStreams(5))
        counts.append(len(waits))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("need", "operator", "noise", "sentence"),
    [
        ("linear", Cubed(SHAPE), 0.1, "a linear operator, and Cubed is not linear"),
        ("proximal", Cubed(SHAPE), 0.1, "a linear operator, for its proximal step, and Cubed is not linear"),
        ("svd", Flipped(SHAPE), 0.1, "the singular value decomposition of the operator, and Flipped has none"),
        ("mask", Flipped(SHAPE), 0.1, "an operator that keeps single pixels, a mask, and Flipped is none"),
        ("white_noise", Flipped(SHAPE), None, r"white noise of one level, and PoissonNoise\(.*\) is not white"),
        ("likelihood", Flipped(SHAPE), 0.0, r"noise above 0, for its likelihood, and GaussianNoise\(.*\) is 0"),
    ],
)
def test_what_is_missing_is_refused_in_words(need, operator, noise, sentence, monkeypatch):
    monkeypatch.setattr(Records, "__module__", "restoration.records")
    method = Records(prior=Halves())
    law = PoissonNoise(scale=30) if noise is None else GaussianNoise(sigma=noise)
    method.check(operator, law)
    method.needs = frozenset({need})
    with pytest.raises(Unsupported, match=f"^records needs {sentence}$"):
        method.check(operator, law)
    method.reasons = {need: "what it says itself"}
    with pytest.raises(Unsupported, match=r"^records needs what it says itself, and "):
        method.check(operator, law)


class Rounded(Cubed):
    """A(x) = round(x): no gradient."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.detach().round()


def test_an_operator_without_gradients_is_refused_also_where_none_are_recorded():
    method = DPS(prior=Halves(), steps=2)
    with torch.no_grad():
        method.check(Cubed(SHAPE), GaussianNoise(sigma=0.1))
        with pytest.raises(Unsupported, match="dps needs an operator with gradients, and Rounded has none"):
            method.check(Rounded(SHAPE), GaussianNoise(sigma=0.1))


def test_what_is_there_is_taken_and_other_needs_do_not_exist():
    operator = RandomMask(removed=0.5).operator_for(SHAPE, [0, 1], RandomStreams(0))
    assert unmet(NEEDS, operator, GaussianNoise(sigma=0.1)) is None
    assert "is not white" in unmet(NEEDS, operator, ImpulseNoise(probability=0.1))
    with pytest.raises(ValueError, match="'svds', which is none of linear, "):
        unmet({"svds"}, operator, GaussianNoise(sigma=0.1))


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 51}, {"spacing": "cubic"}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Records(prior=Halves(), **options)


@pytest.mark.parametrize("kind", WORLDS)
def test_an_exact_sampler_has_the_moments_of_the_posterior(kind):
    """What the battery's default tolerances can tell: an ancestral chain with the exact E[x0 | x, y] passes; with the
    noise of y thought a third smaller or larger it does not.
    """
    world, exact = WORLDS[kind](), ExactOnGaussians(prior=gaussian_prior(), steps=STEPS, spacing="karras", clip=False)
    assert moments(exact, world).within(Bias())
    for factor in (0.67, 1.5):
        m = world.measurement
        wrong = Measurement(y=m.y, operator=m.operator, noise=GaussianNoise(sigma=factor * m.sigma), index=m.index)
        assert not moments(exact, type(world)(wrong, world.mean, world.covariance)).within(Bias())


def test_a_biased_sampler_is_not_exact():
    world = WORLDS["mask"]()
    method = MaskDDNM(prior=gaussian_prior(), steps=STEPS, spacing="karras", clip=False)
    found = moments(method, world)
    assert found.within(MaskDDNM.bias) and not found.within(Bias())
    # measured pixels are pasted: no spread, and an error of the noise of y against the posterior's mean
    x = method.restore(world.measurement, num_samples=5, random=RandomStreams(0)).samples[0]
    kept = world.measurement.operator.mask.bool().expand_as(x)
    assert torch.equal(x[kept], world.measurement.y.expand_as(x)[kept])


def test_the_example_of_the_docstring_is_the_leaf_of_the_tests():
    """Line for line, but for its docstring."""

    def lines(text: str) -> list[str]:
        body = text[text.index("class MaskDDNM") :].splitlines()
        code = [line.strip() for line in body if line.strip() and '"""' not in line and "Wang et al." not in line]
        return code[: next(i for i, line in enumerate(code) if line.startswith("return")) + 1]

    assert lines(inspect.getdoc(PosteriorSampler)) == lines(inspect.getsource(MaskDDNM))
    assert len(inspect.getsource(MaskDDNM).splitlines()) <= 15
