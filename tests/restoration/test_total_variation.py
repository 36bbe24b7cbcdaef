"""Total variation: the library's weight is ours, the objective falls to its minimum, degenerate images."""

import math
from itertools import pairwise

import pytest
import torch
from restoration_worlds import Cubed

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.circular_blur import CircularGaussianBlur
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from restoration.base import Unsupported
from restoration.total_variation import TotalVariation, total_variation


def picture(channels: int = 1, side: int = 16) -> torch.Tensor:
    """Two flat regions and a disc, [1, C, side, side] in [-1, 1]."""
    i, j = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x = torch.where(j < side // 2, -0.5, 0.2)
    x = torch.where((i - side // 2) ** 2 + (j - side // 2) ** 2 < (side // 4) ** 2, 0.8, x)
    return torch.stack([x * s for s in (1.0, -0.7, 0.4)[:channels]])[None].double()


def noisy(x: torch.Tensor, degradation, sigma: float = 0.1) -> Measurement:
    return measure(
        x, degradation=degradation, noise=GaussianNoise(sigma=sigma), index=range(len(x)), random=RandomStreams(0)
    )


def test_the_functional():
    x = torch.zeros(1, 2, 3, 3)
    x[0, 0, 1, 1] = 2.0  # gradients: (0,1) down 2, (1,0) right 2, (1,1) both -2
    assert float(total_variation(x)) == pytest.approx(4 + math.sqrt(8))


@pytest.mark.parametrize(("left", "right", "weight"), [(0.9, -0.7, 0.3), (0.9, -0.7, 0.79), (0.9, -0.7, 0.9)])
def test_two_pixels_in_closed_form(left, right, weight):
    """min (a - l)^2 / 2 + (b - r)^2 / 2 + w |a - b|: both move by min(w, |l - r| / 2) towards their mean. So the
    library's weight is ours.
    """
    y = torch.tensor([left, right], dtype=torch.float64).view(1, 1, 1, 2)
    measurement = Measurement(y=y, operator=Identity().bind({}, (1, 1, 2)), noise=GaussianNoise(sigma=0.0), index=(0,))
    x = TotalVariation(weight=weight, tolerance=0.0).restore(measurement, random=RandomStreams(0)).samples.flatten()
    move = min(weight, (left - right) / 2)
    assert x.tolist() == pytest.approx([left - move, right + move], abs=1e-3)


def test_average_pooling_in_closed_form():
    """One block of 2x2 beside another: the pair of block means y shrinks by w * 2 each, because the border is 2 pixels
    high and A has norm 1/2.

    min (a - l)^2 / 2 + (b - r)^2 / 2 + 2 w |a - b| over block values a and b (a flat block explains its mean at no cost
    of its own).
    """
    y = torch.tensor([0.6, -0.4], dtype=torch.float64).view(1, 1, 1, 2)
    measurement = Measurement(
        y=y, operator=AveragePool(factor=2).bind({}, (1, 2, 4)), noise=GaussianNoise(sigma=0.0), index=(0,)
    )
    x = TotalVariation(weight=0.05, tolerance=0.0, iterations=400).restore(measurement, random=RandomStreams(0)).samples
    assert measurement.operator(x[:, 0]).flatten().tolist() == pytest.approx([0.5, -0.3], abs=5e-3)


@pytest.mark.parametrize(
    "degradation", [Identity(), RandomMask(removed=0.5), AveragePool(factor=2), CircularGaussianBlur(std=1.0), Grey()]
)
def test_reaches_the_minimum(degradation):
    """The objective never rises, and ends where an independent primal-dual method ends (Condat 2013), which knows no
    proximal step of TV.
    """
    x = picture(3)
    measurement = noisy(x, degradation)
    method = TotalVariation()
    restoration = method.restore(measurement, random=RandomStreams(0))
    objective = restoration.trace["objective"]
    assert all(b <= a for a, b in pairwise(objective))
    weight = measurement.operator.norm() * (0.006 + 0.3 * measurement.sigma)
    final = method._objective(measurement.operator, restoration.samples[:, 0], measurement.y, weight)
    assert objective[-1] == pytest.approx(float(final))
    assert objective[-1] == pytest.approx(_least_objective(measurement, weight), rel=5e-3)
    before = (measurement.operator.pseudo_inverse(measurement.y) - x).square().mean()
    assert (restoration.samples[:, 0] - x).square().mean() < before


def _least_objective(measurement: Measurement, weight: float, iterations: int = 4000) -> float:
    operator, y = measurement.operator, measurement.y
    x = operator.pseudo_inverse(y)
    dual = torch.zeros(2, *x.shape, dtype=x.dtype)
    step_dual = 0.5
    step = 0.99 / (8 * step_dual + operator.norm() ** 2 / 2)
    for _ in range(iterations):
        moved = x - step * (operator.adjoint(operator(x) - y) + _gradient_adjoint(dual))
        dual = dual + step_dual * _gradient(2 * moved - x)
        dual = dual / (dual.square().sum(0).sqrt() / weight).clamp(min=1)
        x = moved
    return float((operator(x) - y).square().sum() / 2 + weight * total_variation(x).sum())


def _gradient(x: torch.Tensor) -> torch.Tensor:
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :], right[..., :-1] = x.diff(dim=-2), x.diff(dim=-1)
    return torch.stack([down, right])


def _gradient_adjoint(p: torch.Tensor) -> torch.Tensor:
    x = torch.zeros_like(p[0], requires_grad=True)
    with torch.enable_grad():
        (adjoint,) = torch.autograd.grad((_gradient(x) * p).sum(), x)
    return adjoint


def test_images_finish_on_their_own():
    """A flat image is finished at once and stays, while its neighbour goes on; one step is reported per iteration."""
    x = torch.cat([torch.full((1, 1, 16, 16), 0.25, dtype=torch.float64), picture()])
    operator = RandomMask(removed=0.0).operator_for((1, 16, 16), [0, 1], RandomStreams(0))
    measurement = Measurement(y=x.clone(), operator=operator, noise=GaussianNoise(sigma=0.1), index=(0, 1))
    seen = []
    restoration = TotalVariation(iterations=7).restore(
        measurement, random=RandomStreams(0), on_step=lambda i, n, x: seen.append((i, n))
    )
    assert torch.equal(restoration.samples[0, 0], x[0])
    assert seen == [(i, 7) for i in range(len(seen))]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 5), (3, 7, 1)])
def test_tiny_images(shape):
    measurement = noisy(torch.zeros(2, *shape), Identity())
    samples = TotalVariation().restore(measurement, random=RandomStreams(0)).samples
    assert samples.shape == (2, 1, *shape) and torch.isfinite(samples).all()


def test_refuses_non_linear_operators():
    with pytest.raises(Unsupported, match="needs a linear operator"):
        TotalVariation().check(Cubed((1, 8, 8)), GaussianNoise(sigma=0.0))


def test_the_strength_is_that_of_the_weight():
    measurement = noisy(picture(), Identity(), sigma=0.2)
    given, by_strength = (
        TotalVariation(iterations=3, **options).restore(measurement, random=RandomStreams(0)).samples
        for options in ({"weight": 0.006 + 0.7 * 0.2}, {"strength": 0.7})
    )
    assert torch.equal(given, by_strength)


@pytest.mark.parametrize(
    "options", [{"weight": 0.0}, {"weight": -0.1}, {"strength": -0.1}, {"iterations": 0}, {"tolerance": -1.0}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError):
        TotalVariation(**options)
