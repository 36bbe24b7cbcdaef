"""Classifier-free guidance: what it computes, how many calls it makes, whom it leaves alone."""

import pytest
import torch
from torch import Tensor

from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import Condition, Denoiser, Prediction
from diffusion.guidance import Guided
from diffusion.levels import karras_sigmas
from diffusion.samplers.ddim import DDIM

SHAPE = (1, 2, 2)


class TwoClasses(Denoiser):
    """Class 0 is N(-0.5, 0.04), class 1 is N(0.5, 0.04); without a label the data are taken as N(0, 0.29), their mean
    and variance.
    """

    def __init__(self) -> None:
        super().__init__()
        classes = [(-0.5, 0.04), (0.5, 0.04), (0.0, 0.29)]  # the last one stands for label -1
        self.parts = [GaussianDenoiser(mean=m, covariance=v, data_shape=SHAPE) for m, v in classes]
        self.data_shape, self.sigma_min, self.sigma_max, self.sizes = SHAPE, 0.002, 80.0, []

    def level_at(self, time: Tensor) -> Tensor:
        return self.parts[0].level_at(time)

    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        self.sizes.append(len(x))
        label = torch.full((len(x),), -1) if condition is None or condition.label is None else condition.label
        rows = [self.parts[int(k)].predict(x[i : i + 1], sigma[i : i + 1]) for i, k in enumerate(label)]
        return Prediction(x0=torch.cat([r.x0 for r in rows]), eps=torch.cat([r.eps for r in rows]))


def setting(n: int = 4) -> tuple[TwoClasses, Tensor, Tensor, Condition]:
    x = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.linspace(0.2, 2, n, dtype=torch.float64)
    return TwoClasses(), x, sigma, Condition(label=torch.arange(n) % 2)


@pytest.mark.parametrize(("scale", "sizes"), [(1.0, [4]), (0.0, [4]), (2.5, [8])])
def test_one_call_at_scale_1_and_0_and_one_of_twice_the_batch_else(scale, sizes):
    denoiser, x, sigma, condition = setting()
    Guided(denoiser=denoiser, scale=scale).predict(x, sigma, condition)
    assert denoiser.sizes == sizes


def test_it_is_the_formula_and_says_the_same_in_eps_and_x0():
    denoiser, x, sigma, condition = setting()
    with_label, without = denoiser.predict(x, sigma, condition), denoiser.predict(x, sigma)
    for scale in (0.0, 0.5, 1.0, 3.0):
        guided = Guided(denoiser=denoiser, scale=scale).predict(x, sigma, condition)
        torch.testing.assert_close(guided.eps, without.eps + scale * (with_label.eps - without.eps), atol=1e-12, rtol=0)
        torch.testing.assert_close(guided.x0, x - sigma.view(-1, 1, 1, 1) * guided.eps, atol=1e-12, rtol=0)


def test_outside_of_the_interval_and_without_a_label_nobody_is_guided():
    denoiser, x, sigma, condition = setting()
    guided = Guided(denoiser=denoiser, scale=3.0, interval=(0.5, 1.5)).predict(x, sigma, condition)
    plain, full = (
        denoiser.predict(x, sigma, condition),
        Guided(denoiser=denoiser, scale=3.0).predict(x, sigma, condition),
    )
    inside = (sigma >= 0.5) & (sigma <= 1.5)
    assert inside.tolist() == [False, True, True, False]
    assert torch.equal(guided.x0[~inside], plain.x0[~inside]) and torch.equal(guided.x0[inside], full.x0[inside])
    denoiser.sizes.clear()
    Guided(denoiser=denoiser, scale=3.0, interval=(5.0, 9.0)).predict(x, sigma, condition)
    assert denoiser.sizes == [4]
    nobody = Condition(label=torch.full((4,), -1))
    torch.testing.assert_close(
        Guided(denoiser=denoiser, scale=3.0).predict(x, sigma, nobody).x0,
        denoiser.predict(x, sigma).x0,
        atol=1e-12,
        rtol=0,
    )


def test_rescaling_gives_the_spread_of_the_conditional_prediction():
    denoiser, x, sigma, condition = setting()
    guided = Guided(denoiser=denoiser, scale=4.0, rescale=1.0).predict(x, sigma, condition)
    wanted = denoiser.predict(x, sigma, condition).x0
    torch.testing.assert_close(guided.x0.flatten(1).std(1), wanted.flatten(1).std(1))
    torch.testing.assert_close(guided.eps, (x - guided.x0) / sigma.view(-1, 1, 1, 1))


def test_samples_go_to_the_class_and_further_with_more_guidance():
    start = 10 * torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    condition = Condition(label=torch.ones(64, dtype=torch.long))
    sigmas = karras_sigmas(40, 0.002, 10.0)
    means = [
        float(
            DDIM().sample(Guided(denoiser=TwoClasses(), scale=s), start, sigmas, condition=condition, clip=False).mean()
        )
        for s in (0.0, 1.0, 2.0)
    ]
    assert abs(means[0]) < 0.12 and abs(means[1] - 0.5) < 0.05 and means[2] > means[1] + 0.1, means


def test_nonsense_is_refused():
    for options in ({"scale": -1.0}, {"scale": float("inf")}, {"interval": (2.0, 1.0)}, {"rescale": 1.5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Guided(denoiser=TwoClasses(), **options)
    denoiser, x, sigma, _ = setting()
    with pytest.raises(ValueError, match="needs labels"):
        Guided(denoiser=denoiser, scale=2.0).predict(x, sigma)


def test_a_network_that_knows_classes_only_cannot_be_guided_away_from_none():
    denoiser = TwoClasses()
    denoiser.network = torch.nn.Identity()
    denoiser.network.null_class = False
    Guided(denoiser=denoiser, scale=1.0)
    with pytest.raises(ValueError, match="trained without labels too"):
        Guided(denoiser=denoiser, scale=2.0)
