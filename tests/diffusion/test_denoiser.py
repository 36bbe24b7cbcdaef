import warnings

import pytest
import torch

from diffusion.denoiser import Condition, DiscreteDenoiser, Prediction
from diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from tests.diffusion.tools import SHAPE, gaussian, normal, optimal

PREDICTIONS = ("epsilon", "x0", "v")


class Recorder(torch.nn.Module):
    """Gives zeros and remembers what it was asked."""

    def forward(self, x, time, label=None):
        self.x, self.time, self.label = x, time, label
        return torch.zeros_like(x)


def recorder(prediction="epsilon", schedule=None):
    network = Recorder()
    return network, DiscreteDenoiser(
        network=network, schedule=schedule or Linear(), prediction=prediction, data_shape=SHAPE
    )


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_three_predictions_say_the_same(prediction, schedule):
    sigma = torch.tensor([float(schedule.sigmas[0]), 0.1, 0.4321, 1.0, 3.3, 20.0, 80.0])
    x = (0.5 * normal(7, *SHAPE) + sigma.view(-1, 1, 1, 1) * normal(7, *SHAPE, seed=1)).float()
    found, exact = (
        optimal(prediction, schedule).predict(x, sigma),
        gaussian(schedule).predict(x.double(), sigma.double()),
    )
    # float32 rounding of the network's own output, times sigma where x0 is made from epsilon, divided by it where
    # epsilon is made from x0.
    level = sigma.view(-1, 1, 1, 1)
    assert bool(((found.x0 - exact.x0).abs() < 1e-6 * (1 + level)).all())
    assert bool(((found.eps - exact.eps).abs() < 1e-6 * (1 + 1 / level)).all())
    assert found.x0.dtype == torch.float32 and found.variance is None


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_x_is_x0_plus_sigma_eps(prediction):
    denoiser, sigma = optimal(prediction), torch.tensor([0.05, 1.0, 50.0])
    x = normal(3, *SHAPE).float() * (1 + sigma.view(-1, 1, 1, 1))
    for p in (denoiser.predict(x, sigma), denoiser.predict(x, sigma).clipped(x, sigma)):
        torch.testing.assert_close(p.x0 + sigma.view(-1, 1, 1, 1) * p.eps, x, rtol=1e-5, atol=1e-5)
    assert float(p.x0.abs().max()) <= 1


def test_what_the_network_sees():
    network, denoiser = recorder()
    sigma = torch.tensor([float(denoiser.schedule.sigmas[3]), 1.0])
    x = normal(2, *SHAPE).float()
    denoiser.predict(x, sigma, Condition(label=torch.tensor([4, -1])))
    torch.testing.assert_close(network.x, x / (1 + sigma.square()).sqrt().view(-1, 1, 1, 1))
    assert float(network.time[0]) == 3 and network.time.dtype == torch.float32  # exact on the table
    assert float(denoiser.level_at(network.time)[1]) == pytest.approx(1.0, rel=1e-6)
    assert network.label.tolist() == [4, -1]


def test_levels_outside_are_clamped_with_one_warning():
    network, denoiser = recorder()
    x = torch.ones(2, *SHAPE)
    with pytest.warns(UserWarning, match=r"leaves the levels.*\[0.01, 157.4\]"):
        denoiser.predict(x, torch.tensor([0.001, 1000.0]))
    assert network.time.tolist() == [0, 999]
    torch.testing.assert_close(network.x[1], x[1] / (1 + 1000.0**2) ** 0.5)  # x keeps its own scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser.predict(x, torch.tensor([0.001, 1000.0]))


def test_the_own_levels_do_not_warn():
    for schedule in (Linear(), Cosine()):
        _, denoiser = recorder(schedule=schedule)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            denoiser.predict(torch.ones(2, *SHAPE), schedule.sigmas[[0, -1]].float())


@pytest.mark.parametrize(
    ("sigma", "match"), [(float("inf"), "finite"), (float("nan"), "finite"), (0.0, "positive"), (-1.0, "positive")]
)
def test_impossible_levels_are_refused(sigma, match):
    _, denoiser = recorder()
    with pytest.raises(ValueError, match=match):
        denoiser.predict(torch.ones(2, *SHAPE), torch.tensor([1.0, sigma]))


def test_shapes_of_sigma():
    _, denoiser = recorder()
    x = torch.ones(2, *SHAPE)
    with pytest.raises(ValueError, match="map of sigmas"):
        denoiser.predict(x, torch.ones(2, 1, *SHAPE[1:]))
    for shape in ((), (1,), (3,), (2, 1), (2, 2, *SHAPE[1:])):
        with pytest.raises(ValueError, match="sigma must have shape"):
            denoiser.predict(x, torch.ones(shape))
    with pytest.raises(ValueError, match="'epsilon', 'x0' or 'v'"):
        recorder("noise")


def test_low_precision_networks_keep_float32_images():
    network = torch.nn.Conv2d(1, 1, 1)
    denoiser = DiscreteDenoiser(network=_Wrapped(network), schedule=Linear(), prediction="v", data_shape=SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        p = denoiser.predict(torch.ones(1, *SHAPE), torch.ones(1))
    assert p.x0.dtype == p.eps.dtype == torch.float32


class _Wrapped(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, time, label=None):
        return self.network(x)


def test_clipping_derives_eps_again():
    x, sigma = torch.tensor([[[[3.0]]]]), torch.tensor([2.0])
    p = Prediction(x0=torch.tensor([[[[2.0]]]]), eps=torch.tensor([[[[0.5]]]])).clipped(x, sigma)
    assert float(p.x0) == 1 and float(p.eps) == 1


def test_v_at_the_stand_in_for_an_infinite_level():
    """x0 = a x_vp - b v with a = 0, b = 1: the network sees the noise itself, and minus its answer is the image."""

    class Answer(torch.nn.Module):
        def forward(self, x, time, label=None):
            self.x, self.time = x, time
            return torch.tanh(x) - 0.3

    network, schedule = Answer(), ZeroTerminalSNR(schedule=Linear())
    denoiser = DiscreteDenoiser(network=network, schedule=schedule, prediction="v", data_shape=SHAPE)
    noise = normal(4, *SHAPE).float()
    sigma = denoiser.sigma_max * torch.ones(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = denoiser.predict(denoiser.sigma_max * noise, sigma)
    torch.testing.assert_close(network.x, noise, rtol=2e-7, atol=0)  # an ulp of 1 / sqrt(1 + 2^40)
    assert network.time.tolist() == [999] * 4
    torch.testing.assert_close(p.x0, -(torch.tanh(noise) - 0.3), rtol=0, atol=4e-6)  # a^2 x = noise / 2^20
    torch.testing.assert_close(p.eps, noise, rtol=0, atol=2e-6)
    # Training asks the same at alpha-bar = 0.
    asked = denoiser.training_pair(torch.ones(4, *SHAPE), noise, torch.full((4,), 999))
    assert (
        torch.equal(asked.input, noise)
        and torch.equal(asked.target, -torch.ones(4, *SHAPE))
        and asked.snr.tolist() == [0] * 4
    )


def test_clipping_keeps_what_was_learned():
    x, sigma = torch.tensor([[[[3.0]]]]), torch.tensor([2.0])
    p = Prediction(x0=torch.tensor([[[[2.0]]]]), eps=torch.tensor([[[[0.5]]]]), variance=x, fraction=x).clipped(
        x, sigma
    )
    assert p.variance is x and p.fraction is x
