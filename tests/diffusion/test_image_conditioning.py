"""Denoisers that are told a conditioning image: their algebra against the exact posterior mean, against a plain
denoiser, and the regression with a conditioning image of zeros.
"""

import pytest
import torch
from torch import nn

from checkpoints.prior import build_denoiser, describe_prior
from common.errors import UserError
from common.random_streams import RandomStreams
from diffusion.assemble import assemble
from diffusion.denoiser import Condition
from diffusion.image_conditioning import ConditioningOptions
from diffusion.levels import spaced_sigmas
from diffusion.losses import denoising_loss
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine, Linear
from diffusion.weighting.min_snr import MinSNR
from networks.unet import UNet

SHAPE = (1, 8, 8)


def unet(inputs: int, seed: int = 0) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(
            in_channels=inputs, out_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4
        )
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return network.eval()


def with_guide(prediction: str = "v", inputs: int = 2, network: nn.Module | None = None, **options):
    conditioning = ConditioningOptions(**{"form": "shifted", **options})
    return assemble(
        network=network or unet(inputs),
        schedule=Cosine(),
        prediction=prediction,
        data_shape=SHAPE,
        conditioning=conditioning,
    )


def images(name: str, count: int = 3) -> torch.Tensor:
    return RandomStreams(1).uniform(name, 0, 0, (count, *SHAPE)) * 2 - 1


class Exact(nn.Module):
    """The best x0-prediction for u ~ N(0, v): v a x / (a^2 v + b^2), of (a u + b noise, g) at integer times."""

    def __init__(self, variance: float, schedule) -> None:
        super().__init__()
        self.variance, self.schedule = variance, schedule

    def forward(self, x, time, label=None):
        alpha_bar = self.schedule.alpha_bar_of(time.long()).to(x).view(-1, 1, 1, 1)
        return self.variance * alpha_bar.sqrt() * x[:, :1] / (alpha_bar * self.variance + 1 - alpha_bar)


@pytest.mark.parametrize(("form", "std"), [("shifted", 1.0), ("residual", 0.2)])
def test_the_prediction_is_the_exact_posterior_mean(form, std):
    """x0 = g + r with r ~ N(0, 0.2^2): E[x0 | x] = g + 0.04 / (0.04 + sigma^2) (x - g), whatever the scale that the
    network works in.
    """
    schedule = Cosine()
    network = Exact((0.2 / std) ** 2, schedule)
    denoiser = with_guide("x0", network=network, form=form, residual_std=std)
    sigma = float(denoiser.level_at(torch.tensor([500.0])))
    g, x = images("g"), images("x")
    found = denoiser.predict(x, torch.full((3,), sigma), Condition(image=g))
    gain = 0.04 / (0.04 + sigma**2)
    torch.testing.assert_close(found.x0, g + gain * (x - g), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x, found.x0 + sigma * found.eps)


def test_a_guide_of_zeros_gives_the_plain_loss_bit_for_bit():
    """Reference 4.2: with x_D = 0 the shifted mean is the ordinary forward process; with its network it has the
    ordinary loss, to the last bit.
    """
    x0, noise, time = images("x0"), RandomStreams(2).normal("n", 0, 0, (3, *SHAPE)), torch.tensor([3, 500, 998])
    zeros = torch.zeros_like(x0)
    for prediction in ("epsilon", "v", "x0"):
        network = unet(1)
        plain = assemble(network=network, schedule=Linear(), prediction=prediction, data_shape=SHAPE)
        options = ConditioningOptions(form="shifted", sees_image=False)
        shifted = assemble(
            network=network, schedule=Linear(), prediction=prediction, data_shape=SHAPE, conditioning=options
        )
        weighting = MinSNR()
        expected = denoising_loss(plain, x0, noise, time, weighting=weighting)
        found = denoising_loss(
            shifted, shifted.inner(x0, zeros), noise, time, weighting=weighting, condition=Condition(image=zeros)
        )
        assert torch.equal(found, expected)
        sigma = torch.full((3,), 0.7)
        assert torch.equal(
            shifted.predict(x0 + noise, sigma, Condition(image=zeros)).x0, plain.predict(x0 + noise, sigma).x0
        )


def test_a_second_input_of_zeros_changes_nothing_but_rounding():
    """The first convolution of a network that sees the conditioning image, with the weights of one that does not and
    any weights on the guide.
    """
    wide, narrow = unet(2), unet(1)
    state = {k: v for k, v in narrow.state_dict().items() if k != "stem.weight"}
    wide.load_state_dict(
        {**state, "stem.weight": torch.cat([narrow.stem.weight.detach(), torch.randn_like(narrow.stem.weight)], 1)}
    )
    x0, noise, time, zeros = images("x0"), images("n"), torch.tensor([3, 500, 998]), torch.zeros(3, *SHAPE)
    plain = assemble(network=narrow, schedule=Cosine(), prediction="v", data_shape=SHAPE)
    for form in ("conditional", "shifted"):
        denoiser = with_guide(network=wide, form=form)
        found = denoising_loss(denoiser, denoiser.inner(x0, zeros), noise, time, condition=Condition(image=zeros))
        torch.testing.assert_close(found, denoising_loss(plain, x0, noise, time), rtol=1e-5, atol=1e-6)


def test_a_shortened_chain_has_fewer_times_and_a_lower_start():
    short = with_guide(last_time=0.3)
    assert short.num_timesteps == 300 and short.sigma_max == pytest.approx(float(Cosine().sigmas[299]))
    assert int(short.training_time(torch.tensor([0.9999]))) == 299 and len(short.bins(5)) == 5
    levels = spaced_sigmas(short, 4, "trailing")
    assert float(levels[0]) == pytest.approx(short.sigma_max)
    scaled = with_guide(form="residual", residual_std=0.25, last_time=0.3)
    assert scaled.sigma_max == pytest.approx(0.25 * short.sigma_max) and scaled.sigma_min == pytest.approx(
        0.25 * short.sigma_min
    )
    # The whole range can be asked about without a warning; beyond it there is one.
    x, g = images("x"), Condition(image=images("g"))
    for sigma in (scaled.sigma_min, scaled.sigma_max):
        scaled.predict(x, torch.full((3,), sigma), g)
    assert not scaled._warned
    with pytest.warns(UserWarning, match="leaves the levels"):
        scaled.predict(x, torch.full((3,), 2 * scaled.sigma_max), g)


def test_samplers_need_not_know():
    denoiser, g = with_guide(form="residual", residual_std=0.3), images("g")
    sigmas = spaced_sigmas(denoiser, 5)
    x = DDIM().sample(denoiser, g + float(sigmas[0]) * images("z"), sigmas, condition=Condition(image=g))
    assert x.shape == g.shape and bool(torch.isfinite(x).all()) and float(x.abs().max()) <= 1


@pytest.mark.parametrize(
    "options", [{}, {"form": "conditional"}, {"form": "residual", "residual_std": 0.3, "last_time": 0.5}]
)
def test_a_checkpoint_says_all_of_it(options):
    denoiser = with_guide(**options)
    again = build_denoiser(describe_prior(denoiser, data="test"), where="test")
    again.network.load_state_dict(denoiser.network.state_dict())
    again.eval()
    assert again.options == denoiser.options and (again.num_timesteps, again.sigma_max) == (
        denoiser.num_timesteps,
        denoiser.sigma_max,
    )
    x, sigma, g = images("x"), torch.full((3,), 0.4), Condition(image=images("g"))
    assert torch.equal(again.predict(x, sigma, g).x0, denoiser.predict(x, sigma, g).x0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"form": "mixed"}, "form must be"),
        ({"form": "residual"}, "residual_std belongs to form residual"),
        ({"residual_std": 0.5}, "residual_std belongs to form residual"),
        ({"last_time": 0.0}, "last_time lie in"),
        ({"form": "conditional", "sees_image": False}, "the one that sees"),
    ],
)
def test_options(options, match):
    with pytest.raises(ValueError, match=match):
        with_guide(**options)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"set network\.in_channels to 2"):
        with_guide(inputs=1)
    with pytest.raises(UserError, match="cannot work without one"):
        with_guide().predict(images("x"), torch.full((3,), 0.4))
    with pytest.raises(ValueError, match="variance fixed"):
        assemble(
            network=unet(2),
            schedule=Cosine(),
            prediction="v",
            data_shape=SHAPE,
            variance="learned_range",
            conditioning=ConditioningOptions(),
        )
