"""Chains that begin in the middle: exact posteriors in the closed-form world, agreement with SDEdit and with one-shot
denoising, options and refusals.
"""

import math

import pytest
import torch
from helpers import tiny_denoiser
from restoration_worlds import COVARIANCE, Cubed, OneStream, correlated_pair

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.identity import Identity, IdentityOperator
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.reflecting_blur import ReflectingGaussianBlur
from diffusion.assemble import assemble
from diffusion.image_conditioning import ConditioningOptions
from diffusion.levels import down_from
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.heun import Heun
from diffusion.schedules import Cosine
from networks.unet import UNet
from restoration.base import Cost, Method, Restoration, Unsupported
from restoration.consistency import projection
from restoration.pseudo_inverse import PseudoInverse
from restoration.remaining_error import remaining_error
from restoration.sdedit import SDEdit
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.warm_start import WarmStart


class Claims(Method):
    """A first method that costs calls, estimates the risk of its answer and says why it stopped."""

    deterministic = True

    stopping = MultiNoiseEarlyStopping()

    def calls(self) -> Cost:
        return Cost(nfe=3, backwards=1)

    def restore(self, measurement, *, num_samples=1, random, on_step=None):
        ends = [""] if len(measurement.index) == 1 else [f"/{i}/0" for i in measurement.index]
        trace = {}
        for k, end in enumerate(ends):
            # The RMSE is (k + 1) / 20 in [0, 1] units; what the second pass says does not count.
            trace |= {
                f"risk{end}": [math.nan] + [((k + 1) / 20) ** 2] * 40 + [9.0] * 10 + [0.0] * 30,
                f"stage{end}": [0.0] * 51 + [1.0] * 30,
            }
        return Restoration(
            samples=0.5 * measurement.y[:, None],
            cost=self.calls(),
            trace=trace,
            notes=("because",) * len(measurement.y),
        )


def images(count: int = 2, channels: int = 1) -> torch.Tensor:
    return RandomStreams(7).uniform("images", 0, 0, (count, channels, 8, 8)) * 2 - 1


def measured(degradation=None, sigma: float = 0.2, count: int = 2) -> Measurement:
    given = {"noise": GaussianNoise(sigma=sigma), "index": list(range(10, 10 + count)), "random": RandomStreams(3)}
    return measure(images(count), degradation=degradation or Identity(), **given)


def test_from_the_measurement_the_chain_draws_from_the_posterior():
    """x ~ N(0, S), y = x + n: the stochastic chain from y at its own level ends in N(S (S + s^2)^-1 y, (S^-1 +
    s^-2)^-1).
    """
    n, sigma = 30_000, 0.6
    y = torch.tensor([0.7, -0.4], dtype=torch.float64).expand(n, 1, 1, 2)
    measurement = Measurement(
        y=y, operator=IdentityOperator((1, 1, 2)), noise=GaussianNoise(sigma=sigma), index=tuple(range(n))
    )
    method = WarmStart(prior=correlated_pair(), steps=250, clip=False)
    samples = method.restore(measurement, random=OneStream(0)).samples.view(n, 2)
    s = torch.tensor(COVARIANCE, dtype=torch.float64)
    gain = s @ torch.linalg.inv(s + sigma**2 * torch.eye(2, dtype=torch.float64))
    assert torch.allclose(samples.mean(0), gain @ y[0].flatten(), atol=0.012)
    assert torch.allclose(samples.T.cov(), s - gain @ s, atol=0.012)


def test_one_step_from_the_measurement_is_one_shot_denoising():
    prior = tiny_denoiser()
    measurement = measured()
    method = WarmStart(prior=prior, steps=1)
    found = method.restore(measurement, num_samples=5, random=RandomStreams(0))
    expected = prior.predict(measurement.y, torch.full((2,), 0.2)).x0.clamp(-1, 1)
    assert (
        method.deterministic and found.cost == method.calls() == Cost(nfe=1) and found.samples.shape == (2, 1, 1, 8, 8)
    )
    assert torch.equal(found.samples[:, 0], expected)


def test_a_start_above_the_measurement_adds_what_is_missing():
    """Level sigma_0 in all: the added noise has variance sigma_0^2 - sigma^2."""
    measurement, prior = measured(sigma=0.3, count=1), tiny_denoiser()
    seen = []
    original = prior.predict
    prior.predict = lambda x, sigma, condition=None: seen.append((x, sigma)) or original(x, sigma, condition)
    WarmStart(prior=prior, start_255=0.5 * 127.5, steps=2).restore(
        measurement, num_samples=2000, random=RandomStreams(0)
    )
    x, sigma = seen[0]
    assert torch.allclose(sigma, torch.tensor(0.5))
    added = (x - measurement.y).flatten()
    assert float(added.std()) == pytest.approx(0.4, abs=0.005) and abs(float(added.mean())) < 0.005


@pytest.mark.parametrize("sampler", [None, DDIM(), Heun()])
def test_the_first_step_sees_the_guide_and_the_levels_are_even(sampler):
    measurement, prior = measured(AveragePool(factor=2)), tiny_denoiser()
    levels = []
    original = prior.predict
    prior.predict = lambda x, sigma, condition=None: levels.append(float(sigma[0])) or original(x, sigma, condition)
    method = WarmStart(prior=prior, first=PseudoInverse(), start_255=100, steps=6, sampler=sampler)
    found = method.restore(measurement, num_samples=3, random=RandomStreams(0))
    expected = down_from(prior, 100 / 127.5, 6).tolist()[:-1]
    assert [v for k, v in enumerate(levels) if k == 0 or v < levels[k - 1]] == pytest.approx(expected, rel=1e-5)
    assert found.cost == method.calls() == Cost(nfe=len(levels))
    assert found.samples.shape == (2, 3, 1, 8, 8) and not method.deterministic


def test_where_the_chain_starts_and_what_it_cost_in_all():
    """factor times twice the estimated error in [0, 1], for every image its own; the calls, notes and curves of the
    first method are kept.
    """
    measurement, prior = measured(), tiny_denoiser()
    method = WarmStart(prior=prior, first=Claims(), factor=2.0, steps=4)
    found = method.restore(measurement, num_samples=2, random=RandomStreams(0))
    assert found.trace["start_sigma"] == pytest.approx([0.2, 0.2, 0.4, 0.4])
    assert found.cost == method.calls() == Cost(nfe=7, backwards=1) and found.notes == ("because", "because")
    assert found.trace["first/stage/10/0"][0] == 0
    alone = method.restore(measurement.pick([1]), num_samples=2, random=RandomStreams(0))
    # Claims says other errors of an image that is alone ...
    assert torch.allclose(alone.samples[0], found.samples[1], atol=2e-4) is False
    same = WarmStart(prior=prior, first=Claims(), remaining_255=25.5, factor=2.0, steps=4)
    whole, one = (
        same.restore(m, num_samples=2, random=RandomStreams(0)).samples for m in (measurement, measurement.pick([1]))
    )
    # ... and with one level for all, an image does not depend on its neighbours
    assert torch.allclose(one[0], whole[1], atol=2e-4)
    assert remaining_error(Claims().restore(measurement, random=None), measurement) == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    "degradation", [BoxMask(size=4), AveragePool(factor=2), CircularGaussianBlur(std=0.6), Identity()]
)
def test_projection_without_noise_fulfils_the_measurement(degradation):
    measurement = measured(degradation, sigma=0.0)
    method = WarmStart(
        prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, steps=3, consistency="projection", clip=False
    )
    x = method.restore(measurement, random=RandomStreams(0)).samples[:, 0]
    assert torch.allclose(measurement.operator(x), measurement.y, atol=2e-4)


def test_projection_with_noise_is_the_proximal_step():
    measurement = measured(CircularGaussianBlur(std=0.6), sigma=0.3)
    x0, sigma = images() * 0.5, 0.7
    found = projection(measurement.operator, measurement.y, 0.3)(x0, sigma).requires_grad_(True)
    objective = (measurement.y - measurement.operator(found)).square().sum() / 0.3**2 + (found - x0).square().sum() * (
        1 + sigma**2
    ) / sigma**2
    (gradient,) = torch.autograd.grad(objective, found)
    assert float(gradient.abs().max()) < 2e-4


def test_projection_refuses_noise_that_is_not_white():
    """It takes sigma for the level of white noise, which shot noise has not, and neither has noise that was clipped."""
    method = WarmStart(prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, steps=3, consistency="projection")
    operator = measured(CircularGaussianBlur(std=0.6)).operator
    method.check(operator, GaussianNoise(sigma=0.1))
    for noise in (PoissonNoise(scale=30), ClippedGaussianNoise(sigma=0.1)):
        with pytest.raises(Unsupported, match=rf"white and of one level, and {type(noise).__name__}\(.* is not: take"):
            method.check(operator, noise)
        WarmStart(prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, consistency="gradient").check(
            operator, noise
        )


def test_progress_shows_all_chains_whatever_part_is_at_work():
    """While the first method works its picture stands for every sample; chains of several levels walk one level after
    the other, and the others stay where they are.
    """
    measurement, seen = measured(), []
    found = WarmStart(prior=tiny_denoiser(), first=Claims(), factor=2.0, steps=3).restore(
        measurement, num_samples=2, random=RandomStreams(0), on_step=lambda i, n, x0: seen.append((i, n, x0.clone()))
    )
    assert [i for i, *_ in seen] == sorted(i for i, *_ in seen) and len(seen) == 6
    assert all(n == 1000 and x0.shape == (4, 1, 8, 8) for _, n, x0 in seen)
    assert torch.equal(seen[0][2][2:], 0.5 * measurement.y[1:].expand(2, -1, -1, -1))
    assert torch.equal(seen[-1][2].unflatten(0, (2, 2)), found.samples)


def test_the_gradient_step_pulls_towards_the_measurement():
    measurement = measured(ReflectingGaussianBlur(std=0.6), sigma=0.05)
    error = {}
    for kind in ("none", "gradient"):
        method = WarmStart(prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, steps=8, consistency=kind)
        found = method.restore(measurement, random=RandomStreams(0))
        error[kind] = float((measurement.operator(found.samples[:, 0]) - measurement.y).square().mean())
        assert found.cost == method.calls() == Cost(nfe=8, backwards=8 if kind == "gradient" else 0)
    assert error["gradient"] < error["none"]


def test_refusals():
    prior = tiny_denoiser()
    with pytest.raises(UserError, match="take 'gradient'"):
        WarmStart(prior=prior, first=Claims(), start_255=9, consistency="projection").check(
            Cubed((1, 8, 8)), GaussianNoise(sigma=0.1)
        )
    here = WarmStart(prior=prior)
    with pytest.raises(Unsupported, match="image plus noise"):
        here.check(measured(AveragePool(factor=2)).operator, GaussianNoise(sigma=0.1))
    with pytest.raises(Unsupported, match="has none"):
        here.check(measured().operator, GaussianNoise(sigma=0.0))
    with pytest.raises(Unsupported, match="lies below the noise"):
        WarmStart(prior=prior, start_255=10).check(measured().operator, GaussianNoise(sigma_255=20))
    with pytest.raises(Unsupported, match="does not say how large the error"):
        WarmStart(prior=prior, first=PseudoInverse()).check(measured().operator, GaussianNoise(sigma=0.1))
    with pytest.raises(Unsupported, match="that is not the image"):
        WarmStart(prior=prior, first=Claims()).check(measured(AveragePool(factor=2)).operator, GaussianNoise(sigma=0.1))
    with pytest.raises(Unsupported, match="linear"):  # what the first method refuses
        WarmStart(prior=prior, first=PseudoInverse(), start_255=10).check(Cubed((1, 8, 8)), GaussianNoise(sigma=0.1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"start_255": -1}, "start_255 must be positive"),
        ({"start_255": 1e9}, "a level that the prior knows"),
        ({"remaining_255": 5}, "there is none"),
        ({"first": "restoration.pseudo_inverse.PseudoInverse", "start_255": 9, "remaining_255": 9}, "not both"),
        ({"consistency": "soft"}, "consistency"),
        ({"stepz": 4}, "steps"),
    ],
)
def test_options_from_a_configuration(options, match):
    with pytest.raises(UserError, match=match):
        build(
            {"class_path": "restoration.warm_start.WarmStart", "init_args": options},
            Method,
            where="methods.x",
            prior=tiny_denoiser(),
        )


def test_a_nested_first_method_is_built():
    spec = {"class_path": "restoration.pseudo_inverse.PseudoInverse"}
    options = {
        "first": spec,
        "remaining_255": 12,
        "sampler": {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": 0.5}},
    }
    built = build(
        {"class_path": "restoration.warm_start.WarmStart", "init_args": options},
        Method,
        where="methods.x",
        prior=tiny_denoiser(),
    )
    assert (
        isinstance(built.first, PseudoInverse)
        and built.sampler.eta == 0.5
        and built.remaining == pytest.approx(12 / 127.5)
    )


def test_a_prior_that_takes_a_guide_gets_it_in_every_step_and_other_methods_refuse_it():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(
            in_channels=2, out_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4
        ).eval()
    prior = assemble(
        network=network,
        schedule=Cosine(),
        prediction="v",
        data_shape=(1, 8, 8),
        conditioning=ConditioningOptions(form="shifted"),
    )
    seen = []
    original = prior.predict
    prior.predict = lambda x, sigma, condition=None: seen.append(condition.image) or original(x, sigma, condition)
    measurement = measured(AveragePool(factor=2))
    guide = measurement.operator.pseudo_inverse(measurement.y)
    WarmStart(prior=prior, first=PseudoInverse(), start_255=50, steps=3).restore(
        measurement, num_samples=2, random=RandomStreams(0)
    )
    assert len(seen) == 3 and all(torch.equal(g, guide.repeat_interleave(2, 0)) for g in seen)
    with pytest.raises(Unsupported, match="this method makes none"):
        SDEdit(prior=prior).check(measurement.operator, GaussianNoise(sigma=0.1))


def test_levels_that_the_sampler_cannot_walk_are_refused_before_the_chain():
    """Where the start is given, where it is the noise of the measurement, and where it is the error of the guide."""
    prior, few = tiny_denoiser(), {"steps": 2, "sampler": Heun()}
    with pytest.raises(ValueError, match=r"first step of Heun's method, from sigma = 20 "):
        WarmStart(prior=prior, first=PseudoInverse(), start_255=2550, **few)
    loud = measured(Identity(), sigma=9.0)
    for method in (WarmStart(prior=prior, **few), WarmStart(prior=prior, first=Claims(), factor=200.0, **few)):
        with pytest.raises(Unsupported, match=r"a chain from sigma .* first step of Heun's method"):
            method.restore(loud, random=RandomStreams(0))
    with pytest.raises(Unsupported, match="first step of Heun"):
        WarmStart(prior=prior, **few).check(loud.operator, loud.noise)
    WarmStart(prior=prior, first=PseudoInverse(), start_255=60, steps=8, sampler=Heun())
    WarmStart(prior=prior, first=PseudoInverse(), start_255=2550, steps=2)  # ancestral steps do not average


def test_a_named_scale_is_the_gradient_step_of_before_and_the_default_follows_the_noise():
    """A chain that is pulled by the likelihood leaves the noise of y in the residual; the values of before by name."""
    measurement = measured(ReflectingGaussianBlur(std=0.6), sigma=0.05)
    method = WarmStart(
        prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, steps=8, consistency="gradient", relative_scale=8.0
    )
    samples = method.restore(measurement, num_samples=2, random=RandomStreams(0)).samples
    assert float(samples.double().abs().mean()) == pytest.approx(0.513160, rel=1e-4)
    heun = WarmStart(
        prior=tiny_denoiser(), first=PseudoInverse(), start_255=60, steps=8, consistency="gradient", sampler=Heun()
    )
    assert heun.calls() == Cost(nfe=15, backwards=15)
