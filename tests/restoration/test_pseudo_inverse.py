"""The pseudo-inverse: consistent, of least norm, refused where there is none."""

import pytest
import torch
from restoration_worlds import Cubed

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.grey import Grey
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from restoration.base import Cost, Unsupported
from restoration.pseudo_inverse import PseudoInverse


@pytest.mark.parametrize("degradation", [BoxMask(size=4), AveragePool(factor=2), Grey()])
def test_consistent_and_of_least_norm(degradation):
    x = RandomStreams(0).uniform("images", 0, 0, (2, 3, 8, 8)).double() * 2 - 1
    measurement = measure(
        x, degradation=degradation, noise=GaussianNoise(sigma=0.2), index=[0, 1], random=RandomStreams(0)
    )
    steps = []
    restoration = PseudoInverse().restore(
        measurement, num_samples=4, random=RandomStreams(0), on_step=lambda i, n, _: steps.append((i, n))
    )
    restored = restoration.samples[:, 0]
    assert restoration.samples.shape == (2, 1, 3, 8, 8) and restoration.cost == Cost() and steps == [(0, 1)]
    operator = measurement.operator
    assert torch.allclose(operator(restored), measurement.y, atol=1e-6)
    lost = x - operator.pseudo_inverse(operator(x))  # any image that the operator does not see
    assert abs(float((restored * lost).sum())) < 1e-6 * float(restored.norm() * lost.norm())


def test_refuses_non_linear_operators():
    with pytest.raises(Unsupported, match="needs a linear operator"):
        PseudoInverse().check(Cubed((1, 8, 8)), GaussianNoise(sigma=0.0))
