"""The denoiser's gradient, its levels and its randomness; the method around it."""

import math

import pytest
import torch
from helpers import tiny_denoiser

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from diffusion.denoiser import Denoiser, Prediction
from networks.untrained.skip import SkipArchitecture
from restoration.base import Method, Unsupported
from restoration.deep_image_prior.terms.denoiser import DenoiserTerm
from restoration.deep_image_prior.terms.tv import TVTerm
from restoration.dip import DIP
from restoration.dip_with_prior import DIPWithPrior
from restoration.stopping.fixed import FixedIterations

TINY = SkipArchitecture(preset="small", channels=[4, 6], skip=[2, 2], inputs=3)


class Always(Denoiser):
    """Says that every image is 0.5 everywhere; remembers what it was asked."""

    data_shape, sigma_min, sigma_max = (1, 8, 8), 0.01, 10.0

    def __init__(self, conditioned: bool = False) -> None:
        super().__init__()
        self.takes_image, self.asked = conditioned, []

    def level_at(self, time):
        return torch.lerp(torch.tensor(0.01), torch.tensor(10.0), time / 999)

    def predict(self, x, sigma, condition=None):
        self.asked.append((x, float(sigma[0]), None if condition is None else condition.image))
        x0 = torch.full_like(x, 0.5)
        return Prediction(x0=x0, eps=(x - x0) / sigma.view(-1, 1, 1, 1))


def measured(count: int = 2, degradation=None):
    x = RandomStreams(7).uniform("images", 0, 0, (count, 1, 8, 8)) * 2 - 1
    noise = GaussianNoise(sigma=0.1)
    return measure(
        x, degradation=degradation or Identity(), noise=noise, index=list(range(5, 5 + count)), random=RandomStreams(3)
    )


def test_the_gradient_is_f_minus_the_denoised_and_does_not_go_through_the_network():
    prior = tiny_denoiser()
    term = DenoiserTerm(prior=prior, weight=0.7, from_255=50, to_255=50)
    active = term.begin(measured(), random=RandomStreams(0), iterations=10)
    f = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1).requires_grad_(True)
    active.loss(f, 1).sum().backward()
    eps = torch.stack([RandomStreams(0).normal("dip denoiser", i, 0, (1, 8, 8)) for i in (5, 6)])
    x0 = prior.predict(f.detach() + 50 / 127.5 * eps, torch.full((2,), 50 / 127.5)).x0.clamp(-1, 1)
    torch.testing.assert_close(f.grad, 0.7 * (f.detach() - x0) / (2 * 64))
    assert all(p.grad is None for p in prior.parameters())


def test_levels_walk_down_geometrically_with_fresh_noise():
    prior = Always()
    active = DenoiserTerm(prior=prior, from_255=127.5, to_255=12.75).begin(
        measured(), random=RandomStreams(0), iterations=5
    )
    f = torch.zeros(2, 1, 8, 8)
    for iteration in range(1, 6):
        active.loss(f, iteration)
    assert [level for _, level, _ in prior.asked] == pytest.approx([10 ** (-k / 4) for k in range(5)])
    for x, level, _ in prior.asked:
        assert float((x / level).std()) == pytest.approx(1, abs=0.2)
    assert not torch.allclose(prior.asked[0][0], prior.asked[1][0] * 10**0.25)
    fixed = DenoiserTerm(prior=prior, from_255=30, to_255=30)
    assert fixed.level(1, 9) == pytest.approx(fixed.level(9, 9)) == pytest.approx(30 / 127.5)


def test_classic_red_asks_seldom_and_about_the_output_itself():
    prior = Always()
    term = DenoiserTerm(prior=prior, add_noise=False, refresh=10, weight=0.25)
    active = term.begin(measured(), random=RandomStreams(0), iterations=25)
    outputs = [torch.full((2, 1, 8, 8), k / 100) for k in range(25)]
    losses = [active.loss(f, k + 1) for k, f in enumerate(outputs)]
    assert len(prior.asked) == 3 and term.calls_of_rows == 6
    assert all(torch.equal(x, outputs[k]) for (x, _, _), k in zip(prior.asked, (0, 10, 20), strict=True))
    assert losses[3].tolist() == pytest.approx([0.25 * ((0.03 - 0.5) / 2) ** 2] * 2)


def test_the_weight_of_maximum_a_posteriori():
    """(N / m) (s_y / sigma)^2: |A f - y|^2 / (2 s_y^2) - log p_sigma(f), in means over m measured values and N
    pixels.
    """
    term = DenoiserTerm(prior=Always(), from_255=51, to_255=51)
    assert term.weight_at(0.4, measured()).tolist() == pytest.approx([(0.1 / 0.4) ** 2] * 2)
    assert term.weight_at(0.4, measured(degradation=AveragePool(factor=2))).tolist() == pytest.approx(
        [4 * (0.1 / 0.4) ** 2] * 2
    )
    assert term.weight_at(0.4, measured(degradation=BoxMask(size=4, margin=0))).tolist() == pytest.approx(
        [64 / 48 * (0.1 / 0.4) ** 2] * 2
    )
    with pytest.raises(Unsupported, match="give a weight"):
        term.check(measured().operator, GaussianNoise(sigma=0.0))


def test_the_weight_is_that_of_the_noise_there_is():
    """Shot noise is weaker in the dark, and clipped noise in black and white: not the sigma of mid grey, but what the
    law says of y.
    """
    term = DenoiserTerm(prior=Always(), from_255=255, to_255=5)
    x = torch.full((2, 1, 8, 8), -1.0)
    x[1] = 0.8
    for noise in (PoissonNoise(scale=20), ClippedGaussianNoise(sigma_255=25)):
        m = measure(x, degradation=Identity(), noise=noise, index=[0, 1], random=RandomStreams(3))
        expected = (noise.rms(m.y) / 0.4).square().tolist()
        assert term.weight_at(0.4, m).tolist() == pytest.approx(expected)
        assert expected[0] < 0.8 * (noise.sigma / 0.4) ** 2


def test_it_goes_on_from_a_saved_state():
    term = DenoiserTerm(prior=tiny_denoiser(), refresh=2)
    f = torch.zeros(2, 1, 8, 8)

    def walk(active, first, last):
        return [active.loss(f, k).tolist() for k in range(first, last)]

    whole = term.begin(measured(), random=RandomStreams(0), iterations=8)
    begun = term.begin(measured(), random=RandomStreams(0), iterations=8)
    expected = walk(whole, 1, 9)[3:]
    walk(begun, 1, 4)
    state = begun.state_dict()
    again = term.begin(measured(), random=RandomStreams(99), iterations=8)
    again.load_state_dict(state)
    assert walk(again, 4, 9) == expected


def test_a_guided_prior_is_told_the_guide():
    prior, measurement = Always(conditioned=True), measured(degradation=AveragePool(factor=2))
    active = DenoiserTerm(prior=prior).begin(measurement, random=RandomStreams(0), iterations=4)
    active.loss(torch.zeros(2, 1, 8, 8), 1)
    assert torch.equal(prior.asked[0][2], measurement.operator.pseudo_inverse(measurement.y))
    active = DenoiserTerm(prior=prior, conditioning="average").begin(measurement, random=RandomStreams(0), iterations=4)
    active.loss(torch.zeros(2, 1, 8, 8), 1)
    active.after_step(torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.3), 1)
    active.loss(torch.zeros(2, 1, 8, 8), 2)
    assert torch.equal(prior.asked[1][2], torch.zeros(2, 1, 8, 8)) and torch.equal(
        prior.asked[2][2], torch.full((2, 1, 8, 8), 0.3)
    )


def joined(prior, **options) -> DIPWithPrior:
    fixed = {
        "architecture": TINY,
        "iterations": 40,
        "stopping": FixedIterations(iterations=12),
        "from_255": 60,
        "to_255": 20,
    }
    return DIPWithPrior(prior=prior, **{**fixed, **options})


def test_the_cost_is_what_was_called_and_images_do_not_meet():
    prior = Always()
    method = joined(prior, together=2)
    found = method.restore(measured(), num_samples=2, random=RandomStreams(0))
    assert found.samples.shape == (2, 2, 1, 8, 8)
    assert found.cost.nfe == 12 and method.calls().nfe == 40 and sum(len(x) for x, _, _ in prior.asked) == 4 * 12
    assert joined(Always(), refresh=5).restore(measured(), random=RandomStreams(0)).cost.nfe == math.ceil(12 / 5)
    one = joined(Always(), together=1).restore(measured().pick([1]), num_samples=2, random=RandomStreams(0))
    assert torch.allclose(one.samples[0], found.samples[1], atol=1e-4)


def test_the_cost_of_a_term_that_was_given_by_itself_is_what_was_called_too():
    options = {"architecture": TINY, "iterations": 40, "stopping": FixedIterations(iterations=12)}
    for refresh, calls in ((1, 12), (5, 3)):
        method = DIP(terms=[DenoiserTerm(prior=Always(), from_255=60, to_255=20, refresh=refresh), TVTerm()], **options)
        for _ in range(2):
            assert method.restore(measured(), num_samples=2, random=RandomStreams(0)).cost.nfe == calls


def test_a_heavy_weight_wins_over_the_data():
    measurement = measured(1)
    distance = {}
    for weight in (1e-6, 50.0):
        found = joined(
            Always(), weight=weight, iterations=150, averaging=0.0, stopping=FixedIterations(iterations=150)
        ).restore(measurement, random=RandomStreams(0))
        distance[weight] = float((found.samples - 0.5).abs().mean())
    assert distance[50.0] < 0.1 < distance[1e-6]


def test_options_from_a_configuration():
    path = "restoration.dip_with_prior.DIPWithPrior"
    options = {
        "iterations": 7,
        "weight": 2.0,
        "stopping": {"class_path": "restoration.stopping.fixed.FixedIterations", "init_args": {"iterations": 5}},
    }
    built = build({"class_path": path, "init_args": options}, Method, where="methods.x", prior=tiny_denoiser())
    assert built.changes["iterations"] == 7 and built.term.weight == 2.0 and built.stopping.iterations == 5
    for wrong, match in (
        ({"weight": 0}, "weight must be positive"),
        ({"to_255": 1e9}, "a level that the prior knows"),
        ({"wait": 1}, "has no option 'wait'"),
    ):
        with pytest.raises(UserError, match=match):
            build({"class_path": path, "init_args": wrong}, Method, where="methods.x", prior=tiny_denoiser())
