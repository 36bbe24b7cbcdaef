"""Noise levels that differ from pixel to pixel: sigma as a map, from the training pair to what a denoiser answers."""

import math

import pytest
import torch
from torch import nn

from diffusion.autocast import Autocast, AutocastNetwork
from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import Condition, DiscreteDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.flow import FlowDenoiser, UniformTimes
from diffusion.guidance import Guided
from diffusion.image_conditioning import ConditioningOptions, ImageConditionedDenoiser
from diffusion.losses import denoising_loss
from diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from diffusion.weighting.min_snr import MinSNR
from networks.lora import add_adapter, use_adapters
from networks.lora_settings import LoRASettings, chosen
from networks.unet import UNet
from tests.diffusion.tools import normal

SHAPE = (1, 12, 12)
PREDICTIONS = ("epsilon", "x0", "v", "edm", "velocity")
S = 0.5  # of the data of the closed form: N(0, S^2), pixel by pixel


class OptimalPixels(nn.Module):
    """The output of a perfect network for independent pixels N(0, S^2): formulas of one pixel and of its own level."""

    takes_maps = True

    def __init__(self, prediction, schedule):
        super().__init__()
        self.prediction, self.schedule = prediction, schedule

    def forward(self, x, time, label=None):
        time = time if time.ndim == 4 else time.view(-1, 1, 1, 1)
        if self.prediction == "edm":  # Karras et al.: the best F is 0 where the data have standard deviation S
            return torch.zeros_like(x)
        if self.prediction == "velocity":
            t = time.double() / 1000
            return ((t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2) * x.double()).to(x.dtype)
        sigma = self.schedule.sigma_of(time).to(x.dtype)
        a = torch.rsqrt(1 + sigma.square())
        x0 = S**2 / (S**2 + sigma.square()) * x / a
        eps = (x / a - x0) / sigma
        return {"epsilon": eps, "x0": x0, "v": a * eps - a * sigma * x0}[self.prediction]


def around(network, prediction, schedule=None, data_shape=SHAPE, **options):
    if prediction == "edm":
        return EDMDenoiser(network=network, levels=LogNormal(), sigma_data=S, data_shape=data_shape)
    if prediction == "velocity":
        return FlowDenoiser(network=network, levels=UniformTimes(), data_shape=data_shape)
    schedule = schedule or Linear()
    return DiscreteDenoiser(network=network, schedule=schedule, prediction=prediction, data_shape=data_shape, **options)


def unet(**options):
    """Small, and nowhere zero."""
    torch.manual_seed(0)
    options = {"in_channels": 1, "channels": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, **options}
    made = UNet(**options).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return made


def level_map(batch=3, shape=SHAPE, low=0.05, high=20.0, seed=5):
    """Levels that differ from pixel to pixel, log-uniform."""
    u = torch.rand(batch, 1, *shape[1:], generator=torch.Generator().manual_seed(seed))
    return low * (high / low) ** u


# Against the closed form.


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_pixel_gets_the_posterior_mean_of_its_own_level(prediction):
    exact = GaussianDenoiser(mean=0.0, covariance=S**2, data_shape=SHAPE)
    sigma = level_map().double()
    x = S * normal(3, *SHAPE) + sigma * normal(3, *SHAPE, seed=1)
    found = around(OptimalPixels(prediction, Linear()), prediction).predict(x, sigma)
    expected = exact.predict(x, sigma)
    torch.testing.assert_close(expected.x0, S**2 / (S**2 + sigma.square()) * x)
    # the network is asked in float32, as in a sampler
    torch.testing.assert_close(found.x0, expected.x0, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.eps, expected.eps, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.x0 + sigma * found.eps, x, rtol=1e-9, atol=1e-9)


def test_correlated_pixels_answer_through_the_map():
    """m + C (C + diag(sigma^2))^-1 (x - m): what is known at one pixel says something of its neighbour."""
    covariance = torch.tensor([[0.5, 0.4], [0.4, 0.5]], dtype=torch.float64)
    exact = GaussianDenoiser(mean=0.1, covariance=covariance, data_shape=(1, 1, 2))
    x, sigma = normal(4, 1, 1, 2), torch.tensor([0.01, 50.0], dtype=torch.float64).expand(4, 1, 1, 2)
    dense = 0.1 + (x.flatten(1) - 0.1) @ torch.linalg.solve(
        covariance + torch.diag(sigma[0].flatten() ** 2), covariance
    )
    torch.testing.assert_close(exact.predict(x, sigma).x0.flatten(1), dense)
    assert exact.takes_maps and float((dense[:, 1] - 0.1).abs().min()) > 0.05


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_pair_of_every_pixel_is_that_of_its_own_time(prediction):
    """Pixel (i, j) of the pair of a map is pixel (i, j) of the pair of an image that has that time everywhere."""
    d = around(unet(), prediction)
    time = d.training_time(
        torch.rand(2, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    x0, noise = normal(2, *SHAPE), normal(2, *SHAPE, seed=1)
    pair = d.training_pair(x0, noise, time)
    assert pair.time.shape == pair.snr.shape == time.shape
    for i, j in ((0, 0), (3, 7), (11, 2)):
        one = d.training_pair(x0, noise, time[:, 0, i, j])
        for name in ("input", "target"):
            assert torch.equal(getattr(pair, name)[:, :, i, j], getattr(one, name)[:, :, i, j])
        assert torch.equal(pair.snr[:, 0, i, j], one.snr) and torch.equal(pair.time[:, 0, i, j], one.time)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_mean_of_each_pixels_weight_times_its_error(prediction):
    """Through x0: whatever the network predicts, min(SNR, 5) of a pixel times its squared error of x0."""
    d = around(OptimalPixels(prediction, Linear()), prediction)
    time = d.training_time(
        torch.rand(2, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    x0, noise = S * normal(2, *SHAPE), normal(2, *SHAPE, seed=1)
    loss = denoising_loss(d, x0, noise, time, weighting=MinSNR(gamma=5.0))
    sigma = {"edm": lambda: time, "velocity": lambda: time / (1 - time)}.get(prediction, lambda: d.level_at(time))()
    shrunk = S**2 / (S**2 + sigma.square()) * (x0 + sigma * noise)
    expected = (sigma**-2).clamp(max=5) * (shrunk - x0).square()
    torch.testing.assert_close(loss, expected.mean((1, 2, 3)), rtol=1e-6, atol=0)


# The network.

STYLES = {
    "ho": {},
    "scale_shift": {"time_condition": "scale_shift", "resample": "residual", "time_waves": "adm"},
    "edm": {"resample": "projected", "up_attention": "last", "skip_scale": 0.5**0.5},
    "patch": {"patch": 2, "multipliers": [1, 2]},
    "classes": {"num_classes": 3},
    "checkpointed": {"checkpoint_gradients": True},
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(12, 12), (7, 9)])
def test_a_constant_map_is_the_number(style, size):
    network = unet(**STYLES[style])
    x, time = torch.randn(3, 1, *size), torch.tensor([0.0, 417.3, 999.0])
    label = torch.tensor([0, 2, -1]) if style == "classes" else None
    expected = network(x, time, label).detach()
    found = network(x, time.view(-1, 1, 1, 1).expand(3, 1, *size), label)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))
    # the same in double precision: no approximation of another kind
    network, x, time = network.double(), x.double(), time.double()
    torch.testing.assert_close(
        network(x, time.view(-1, 1, 1, 1).expand(3, 1, *size), label), network(x, time, label), rtol=0, atol=1e-12
    )


def test_the_map_is_local_and_padded_with_the_image():
    """An odd image is padded by its last rows, and its map with them: the answer is that of the padded two."""
    network = unet(multipliers=[1, 2, 2]).double()
    x, time = normal(2, 1, 6, 5), 999 * torch.rand(2, 1, 6, 5, dtype=torch.float64)
    pad = (0, 3, 0, 2)
    wide = network(nn.functional.pad(x, pad, mode="replicate"), nn.functional.pad(time, pad, mode="replicate"))
    assert torch.equal(network(x, time), wide[..., :6, :5])
    # What is told of one pixel is heard there first: the normalisations alone carry it across the image.
    network = unet(multipliers=[1, 2], attention=[], middle_attention=False)
    x, time = torch.zeros(2, 1, 32, 32), torch.full((2, 1, 32, 32), 300.0)
    changed = time.clone()
    changed[:, :, :2, :2] = 900
    with torch.no_grad():
        moved = (network(x, changed) - network(x, time)).abs()
    assert float(moved[..., :4, :4].mean()) > 3 * float(moved[..., 24:, 24:].mean()) > 0


@pytest.mark.parametrize("options", [{}, {"patch": 2}])
def test_blocks_hear_the_mean_embedding_of_their_pixels(options):
    network = unet(multipliers=[1, 2], **options)
    time = 999 * torch.rand(2, 1, 8, 8)
    e = network.time_embedding(time)
    assert e.shape == (2, 32, 8, 8)
    torch.testing.assert_close(e[:, :, 3, 5], network.time_embedding(time[:, 0, 3, 5]))
    patch = options.get("patch", 1)
    conditions = network._conditions(time, None)
    for k, c in enumerate(conditions):
        side = patch * 2**k
        torch.testing.assert_close(c[:, :, 0, 0], nn.functional.silu(e[:, :, :side, :side].mean((2, 3))))
        assert c.shape[2:] == (8 // side, 8 // side)


def test_an_adapter_beside_the_layers_hears_maps_too():
    network = unet()
    add_adapter(network, LoRASettings(layers=chosen(network, ["shift", "conv1"]), rank=2))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    use_adapters(network, {"default": 1.0})
    x, time = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 900.0])
    torch.testing.assert_close(
        network(x, time.view(-1, 1, 1, 1).expand(2, 1, 8, 8)), network(x, time), rtol=1e-4, atol=1e-4
    )


# Denoisers around it.


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_batches_may_be_split_and_gradients_flow(prediction):
    d = around(unet(), prediction)
    sigma, x = level_map(), normal(3, *SHAPE).float().requires_grad_(True)
    whole = d.predict(x, sigma)
    for k in range(3):
        part = d.predict(x[k : k + 1], sigma[k : k + 1])
        torch.testing.assert_close(part.x0, whole.x0[k : k + 1], rtol=1e-4, atol=1e-4)
    (slope,) = torch.autograd.grad(whole.x0.square().sum(), x)
    assert bool(slope.isfinite().all()) and float(slope.abs().max()) > 0
    time = d.training_time(
        torch.rand(3, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    denoising_loss(d, x.detach(), normal(3, *SHAPE, seed=1).float(), time).mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in d.network.parameters())


def test_the_gradient_of_the_loss_is_its_difference_quotient():
    d = around(unet().double(), "v")
    time = d.training_time(torch.rand(2, 1, *SHAPE[1:], dtype=torch.float64))
    x0, noise, weight = normal(2, *SHAPE), normal(2, *SHAPE, seed=1), d.network.time_embedding.linear1.weight

    def loss():
        return denoising_loss(d, x0, noise, time).sum()

    (slope,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        before, step = float(loss()), 1e-6
        weight[3, 2] += step
        after = float(loss())
    assert (after - before) / step == pytest.approx(float(slope[3, 2]), rel=1e-3)


def test_learned_variance_belongs_to_each_pixels_own_step():
    d = around(unet(out_channels=2), "epsilon", variance="learned_range")
    time = torch.randint(0, 1000, (2, 1, *SHAPE[1:]), generator=torch.Generator().manual_seed(3))
    time[0, 0, 0, 0] = 0
    x0, noise = normal(2, *SHAPE).clamp(-1, 1), normal(2, *SHAPE, seed=1)
    constant = torch.tensor([0, 700]).view(-1, 1, 1, 1).expand_as(time)
    d.network.double()
    torch.testing.assert_close(
        denoising_loss(d, x0, noise, constant), denoising_loss(d, x0, noise, torch.tensor([0, 700])), rtol=1e-5, atol=0
    )
    assert bool(denoising_loss(d, x0, noise, time).isfinite().all())
    d.network.float()
    found = d.predict(x0.float(), d.level_at(time).float())
    assert found.variance.shape == x0.shape and float(found.variance.min()) >= 0
    first = d.step_variances.at(time[0, 0, 0, 0])  # at t = 0 the variance of the step itself
    expected = (first["log_small"] + found.fraction[0, 0, 0, 0] * first["log_ratio"]).exp()
    assert float(found.variance[0, 0, 0, 0]) == pytest.approx(float(expected), rel=1e-4)


def test_guidance_autocast_and_conditioning_images():
    sigma, x = level_map(batch=2), normal(2, *SHAPE).float()
    condition = Condition(label=torch.tensor([0, 2]))
    d = around(unet(num_classes=3), "epsilon")
    guided = Guided(denoiser=d, scale=2.0, interval=(0.5, 3.0))
    plain, free = d.predict(x, sigma, condition), d.predict(x, sigma)
    inside = (sigma >= 0.5) & (sigma <= 3.0)
    assert guided.takes_maps and 0 < int(inside.sum()) < inside.numel()
    torch.testing.assert_close(
        guided.predict(x, sigma, condition).x0,
        torch.where(inside, 2 * plain.x0 - free.x0, plain.x0),
        rtol=1e-4,
        atol=1e-4,
    )

    half = Autocast(d)
    assert half.takes_maps and AutocastNetwork(d.network).takes_maps
    found = half.predict(x, sigma, condition).eps
    assert found.dtype == torch.float32 and float((found - plain.eps).std()) < 0.03 * float(plain.eps.std())

    for form in ("conditional", "shifted"):
        image = ImageConditionedDenoiser(
            network=unet(in_channels=2, out_channels=1),
            schedule=Linear(),
            prediction="v",
            data_shape=SHAPE,
            options=ConditioningOptions(form=form),
        )
        given = Condition(image=normal(2, *SHAPE, seed=4).float())
        same = torch.tensor([0.3, 4.0])
        torch.testing.assert_close(
            image.predict(x, same.view(-1, 1, 1, 1).expand_as(x), given).x0,
            image.predict(x, same, given).x0,
            rtol=1e-4,
            atol=1e-4,
        )
        assert bool(image.predict(x, sigma, given).x0.isfinite().all())


def test_the_last_time_of_a_chain_that_ends_in_noise():
    d = around(unet(), "v", schedule=ZeroTerminalSNR(schedule=Cosine()))
    time = torch.tensor([0, 999]).repeat_interleave(6).view(1, 1, 1, 12).expand(2, 1, 12, 12)
    loss = denoising_loss(d, normal(2, *SHAPE).float(), normal(2, *SHAPE, seed=1).float(), time)
    assert bool(loss.isfinite().all())


# Refusals.


class OneLevel(nn.Module):
    def forward(self, x, time, label=None):
        return torch.zeros_like(x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_takes_no_maps_is_named(prediction):
    d = around(OneLevel(), prediction)
    assert not d.takes_maps and not Autocast(d).takes_maps and not Guided(denoiser=d).takes_maps
    with pytest.raises(ValueError, match=r"the network OneLevel takes one sigma per image.*takes maps"):
        d.predict(torch.zeros(3, *SHAPE), level_map())
    assert around(unet(), prediction).takes_maps


@pytest.mark.parametrize(
    ("value", "match"), [(0.0, "positive.*sigma_min"), (-1.0, "positive"), (math.inf, "finite"), (math.nan, "finite")]
)
def test_one_impossible_pixel_is_refused(value, match):
    sigma = level_map()
    sigma[1, 0, 4, 4] = value
    with pytest.raises(ValueError, match=match):
        around(unet(), "epsilon").predict(torch.zeros(3, *SHAPE), sigma)


def test_other_shapes_are_refused():
    d = around(unet(), "epsilon")
    x0 = normal(3, *SHAPE)
    for shape in ((3, 1, 12, 11), (3, 1, 1, 1), (2, 1, 12, 12), (3, 12, 12)):
        with pytest.raises(ValueError, match="time must have shape"):
            d.training_pair(x0, x0, torch.zeros(shape, dtype=torch.long))
        with pytest.raises(ValueError, match="one time per image"):
            d.network(x0.float(), torch.zeros(shape))
    with pytest.raises(ValueError, match="sigma must have shape"):
        d.predict(x0, torch.ones(3, 1, 1, 1, dtype=torch.float64))
