import pytest
import torch
from torch import nn

from diffusion.denoiser import DiscreteDenoiser
from diffusion.losses import denoising_loss
from diffusion.schedules import Linear
from diffusion.variational import bound_term
from diffusion.weighting.min_snr import MinSNR
from diffusion.weighting.target import Target
from tests.diffusion.tools import SHAPE, normal

PREDICTIONS = ("epsilon", "x0", "v")


class FromOneX0(nn.Module):
    """The same guess of x0 given as epsilon, x0 or v."""

    def __init__(self, schedule, prediction):
        super().__init__()
        self.schedule, self.prediction = schedule, prediction

    def forward(self, x, time, label=None):
        alpha_bar = self.schedule.alpha_bar_of(time.long()).view(-1, 1, 1, 1)
        a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x0 = torch.tanh(x) + 0.1
        return {"epsilon": (x - a * x0) / b, "x0": x0, "v": (a * x - x0) / b}[self.prediction]


def denoiser(prediction, schedule):
    return DiscreteDenoiser(
        network=FromOneX0(schedule, prediction), schedule=schedule, prediction=prediction, data_shape=SHAPE
    )


def test_loss_is_the_mean_square_on_the_own_target():
    schedule, time = Linear(), torch.tensor([10, 600])
    x0, noise = normal(2, *SHAPE), normal(2, *SHAPE, seed=1)
    a, b = (v.view(-1, 1, 1, 1) for v in (schedule.alphas_bar[time].sqrt(), (1 - schedule.alphas_bar[time]).sqrt()))
    for prediction, target in (("epsilon", noise), ("x0", x0), ("v", a * noise - b * x0)):
        d = denoiser(prediction, schedule)
        expected = (d.network(a * x0 + b * noise, time) - target).square().mean((1, 2, 3))
        torch.testing.assert_close(denoising_loss(d, x0, noise, time, weighting=Target()), expected, rtol=1e-10, atol=0)


def test_bfloat16_reaches_neither_time_nor_loss():
    class Half(nn.Module):
        def forward(self, x, time, label=None):
            self.time = time
            return torch.zeros_like(x)

    d = DiscreteDenoiser(network=Half(), schedule=Linear(), prediction="epsilon", data_shape=SHAPE)
    x0, noise = normal(2, *SHAPE).bfloat16(), normal(2, *SHAPE, seed=1).bfloat16()
    loss = denoising_loss(d, x0, noise, torch.tensor([998, 999]))
    assert d.network.time.tolist() == [998, 999]
    torch.testing.assert_close(loss, noise.float().square().mean((1, 2, 3)))


def test_gradients_reach_the_network():
    network = nn.Conv2d(1, 1, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = network

        def forward(self, x, time, label=None):
            return self.conv(x)

    d = DiscreteDenoiser(network=Net(), schedule=Linear(), prediction="v", data_shape=SHAPE)
    denoising_loss(
        d, normal(2, *SHAPE).float(), normal(2, *SHAPE).float(), torch.tensor([5, 900]), weighting=MinSNR()
    ).mean().backward()
    assert network.weight.grad is not None and bool(network.weight.grad.isfinite().all())


class WithVariance(nn.Module):
    """Two numbers: one scales what is said of the image, the other is what is said of the variance."""

    def __init__(self):
        super().__init__()
        self.image, self.spread = (
            nn.Parameter(torch.tensor(0.3, dtype=torch.float64)),
            nn.Parameter(torch.tensor(0.1, dtype=torch.float64)),
        )

    def forward(self, x, time, label=None):
        return torch.cat([self.image * x, self.spread.expand_as(x)], 1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_hybrid_loss(prediction):
    """L_simple of the first half of the channels plus vlb_weight T times the term of the bound, which trains the
    variance alone.
    """
    network, time = WithVariance(), torch.tensor([0, 3, 500])
    learned = DiscreteDenoiser(
        network=network, schedule=Linear(), prediction=prediction, data_shape=SHAPE, variance="learned_range"
    )
    x0, noise = normal(3, *SHAPE).clamp(-1, 1), normal(3, *SHAPE, seed=1)

    class ImageOnly(nn.Module):
        def forward(self, x, time, label=None):
            return network.image * x

    plain = denoising_loss(
        DiscreteDenoiser(network=ImageOnly(), schedule=Linear(), prediction=prediction, data_shape=SHAPE),
        x0,
        noise,
        time,
    )
    bits = bound_term(learned, x0, noise, time, clip=False)
    for weight in (0.001, 0.1):
        hybrid = denoising_loss(learned, x0, noise, time, vlb_weight=weight)
        torch.testing.assert_close(hybrid, plain + weight * 1000 * bits, rtol=1e-9, atol=1e-12)
    of_image, of_spread = torch.autograd.grad(hybrid.sum(), [network.image, network.spread])
    (alone,) = torch.autograd.grad(plain.sum(), [network.image])
    torch.testing.assert_close(of_image, alone, rtol=1e-12, atol=0)
    assert float(of_spread) != 0
