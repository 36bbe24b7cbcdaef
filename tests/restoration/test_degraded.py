"""The measurement as its own restoration: unchanged, and refused where it has another shape than the image."""

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.circular_blur import CircularGaussianBlur
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from restoration.base import Unsupported
from restoration.degraded import Degraded


def test_it_is_the_measurement_and_costs_nothing():
    x = RandomStreams(0).uniform("x", 0, 0, (2, 1, 8, 8)) * 2 - 1
    noise = GaussianNoise(sigma=0.1)
    measurement = measure(
        x, degradation=CircularGaussianBlur(std=0.6), noise=noise, index=[3, 4], random=RandomStreams(1)
    )
    found = Degraded().restore(measurement.without_truth(), num_samples=3, random=RandomStreams(2))
    assert torch.equal(found.samples, measurement.y[:, None]) and found.cost == Degraded().calls()
    assert Degraded.deterministic and found.cost.nfe == 0
    small = AveragePool(factor=2).operator_for((1, 8, 8), [0], RandomStreams(0))
    with pytest.raises(Unsupported, match="1x4x4 for an image of 1x8x8"):
        Degraded().check(small, noise)
