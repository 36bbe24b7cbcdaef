"""What every loss weighting promises; a new file in diffusion/weighting is tested without being named here."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import nn

from common.build import build
from common.renamed_weighting import WEIGHTINGS
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.flow import FlowDenoiser, UniformTimes
from diffusion.losses import check_loss, denoising_loss
from diffusion.schedules import Cosine, Linear
from diffusion.weighting.base import Weighting, target_factor
from inference.catalogue import catalogue
from tests.diffusion.tools import SHAPE, normal

FOUND = catalogue("diffusion/weighting", Weighting)
SNR = torch.logspace(-6, 6, 25, dtype=torch.float64)
SIGMA_DATA = 0.4  # of the network with prediction "edm"
PREDICTIONS = ("epsilon", "x0", "v", "edm", "velocity")


def numbers(cls: type[Weighting]) -> dict[str, float]:
    """The options of a weighting, which are numbers, with their defaults."""
    return {n: p.default for n, p in inspect.signature(cls).parameters.items() if isinstance(p.default, float)}


def _cases() -> dict[str, Weighting]:
    """Each with its defaults, and with each of its numbers changed."""
    found = {}
    for name, cls in FOUND.items():
        found[name] = cls()
        for option, default in numbers(cls).items():
            found[f"{name}-{option}"] = cls(**{option: 0.7 * default})
    return found


CASES = _cases()
each = pytest.mark.parametrize("weighting", CASES.values(), ids=CASES)


class FromOneX0(nn.Module):
    """The same guess of x0, tanh(a x) + 0.1 with a = 1 / sqrt(1 + sigma^2), given as what the network predicts."""

    def __init__(self, schedule, prediction: str) -> None:
        super().__init__()
        self.schedule, self.prediction = schedule, prediction

    def forward(self, given, time, label=None):
        s, edm = SIGMA_DATA, self.prediction == "edm"
        if self.prediction == "velocity":
            t = (time.double() / 1000).view(-1, 1, 1, 1)
            sigma, x = t / (1 - t), given / (1 - t)
            x0 = torch.tanh(torch.rsqrt(1 + sigma**2) * x) + 0.1
            return (x - x0) / sigma - x0
        sigma = (time.double() / 100).exp() if edm else self.schedule.sigma_of(time)
        sigma = sigma.view(-1, 1, 1, 1)
        a, c_in = torch.rsqrt(1 + sigma**2), torch.rsqrt(sigma**2 + s**2)
        x = given / (c_in if edm else a)
        x0 = torch.tanh(a * x) + 0.1
        eps = (x - x0) / sigma
        if edm:
            return (x0 - s**2 * c_in**2 * x) / (sigma * s * c_in)
        return {"epsilon": eps, "x0": x0, "v": a * eps - a * sigma * x0}[self.prediction]


def denoiser(prediction: str, schedule: Any) -> NetworkDenoiser:
    network = FromOneX0(schedule, prediction)
    if prediction == "edm":
        return EDMDenoiser(network=network, levels=LogNormal(), sigma_data=SIGMA_DATA, data_shape=SHAPE)
    if prediction == "velocity":
        return FlowDenoiser(network=network, levels=UniformTimes(), data_shape=SHAPE)
    return DiscreteDenoiser(network=network, schedule=schedule, prediction=prediction, data_shape=SHAPE)


def time_of(prediction: str, time: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """What a denoiser of this prediction calls the level sigma in training; `time`: that of the table."""
    return {"edm": sigma, "velocity": sigma / (1 + sigma)}.get(prediction, time)


def test_they_are_found():
    assert {"min_snr", "simple", "target"} <= {cls.__module__.rpartition(".")[2] for cls in FOUND.values()}


@each
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_the_weighted_losses_of_one_x0_are_equal_in_all_parametrisations(weighting, schedule):
    """MSE_epsilon = SNR MSE_x0, MSE_v = (SNR + 1) MSE_x0, MSE_F = (SNR + 1 / s^2) MSE_x0, of velocity (sqrt(SNR) + 1)^2
    MSE_x0.
    """
    time = torch.tensor([0, 1, 50, 130, 258, 500, 750, 900, 998])
    x0, noise, sigma = normal(9, *SHAPE).clamp(-1, 1), normal(9, *SHAPE, seed=1), schedule.sigma_of(time)
    losses = {
        p: denoising_loss(denoiser(p, schedule), x0, noise, time_of(p, time, sigma), weighting=weighting)
        for p in PREDICTIONS
    }
    guess = torch.tanh((x0 + sigma.view(-1, 1, 1, 1) * noise) * torch.rsqrt(1 + sigma**2).view(-1, 1, 1, 1)) + 0.1
    error = (guess - x0).square().mean((1, 2, 3))
    for prediction, loss in losses.items():
        assert loss.shape == (9,) and loss.dtype == torch.float64
        factor = target_factor(sigma**-2, prediction, SIGMA_DATA)
        expected = error * (factor if weighting.of_target else weighting.on_x0(sigma**-2))
        # float64; at t = 0 epsilon is a difference divided by b = 0.006, squared: 1e-16 / b^2.
        torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-12)


@each
def test_a_weight_is_finite_and_not_negative(weighting):
    for prediction in PREDICTIONS:
        snr = SNR if prediction == "epsilon" else torch.cat([torch.zeros(1, dtype=torch.float64), SNR])
        before = snr.clone()
        w = weighting(snr, prediction, SIGMA_DATA)
        assert w.shape == snr.shape and w.dtype == snr.dtype and torch.equal(snr, before)
        assert bool(w.isfinite().all()) and float(w.min()) >= 0 and float(w.max()) > 0
        torch.testing.assert_close(weighting(snr.float(), prediction, SIGMA_DATA).double(), w, rtol=1e-5, atol=1e-12)


@each
def test_a_map_of_levels_gets_a_map_of_weights(weighting):
    snr = SNR.view(1, 1, 5, 5)
    for prediction in PREDICTIONS:
        assert torch.equal(weighting(snr, prediction, SIGMA_DATA).flatten(), weighting(SNR, prediction, SIGMA_DATA))


@each
def test_it_is_built_again_from_what_a_checkpoint_says(weighting):
    again = build(weighting.spec, Weighting, where="weighting", project_only=True)
    assert type(again) is type(weighting) and torch.equal(again(SNR, "v"), weighting(SNR, "v"))


@each
def test_a_chain_that_ends_in_an_image_is_trained_everywhere(weighting):
    check_loss(denoiser("v", Cosine()), weighting, 0.0)


@pytest.mark.parametrize(("cls", "option"), [(c, o) for c in FOUND.values() for o in numbers(c)])
@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_number_out_of_range_is_refused_by_name(cls, option, value):
    """What is not finite always; a negative one unless it makes a weight all the same."""
    try:
        weighting = cls(**{option: value})
    except ValueError as error:
        assert f"{option} must be" in str(error)
        return
    w = weighting.on_x0(SNR)
    assert math.isfinite(value) and bool(w.isfinite().all()) and float(w.min()) >= 0


def test_the_names_of_before_are_classes_of_now():
    for name, (path, options) in WEIGHTINGS.items():
        weighting = build(path, Weighting, where=name)
        assert weighting.__module__ == f"diffusion.weighting.{name}" and set(options.values()) == set(
            numbers(type(weighting))
        )
