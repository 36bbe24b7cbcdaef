"""Quantisation and clipped contrast: values by hand, their gradients, and what is refused."""

import math

import pytest
import torch

from common.errors import UserError
from degradations.high_dynamic_range import HighDynamicRange
from degradations.quantisation import Quantisation


def _on(degradation, values: list[float]) -> tuple[list[float], list[float]]:
    """What becomes of these pixels, and the gradient of the sum."""
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    y = degradation.bind({}, (1, 1, len(values)))(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.flatten().tolist(), gradient.flatten().tolist()


def test_levels_by_hand():
    """Five levels lie at -1, -0.5, 0, 0.5 and 1; halfway goes up; the gradient is that of clipping."""
    y, gradient = _on(Quantisation(levels=5), [-2.0, -1.0, -0.76, -0.75, -0.74, 0.1, 0.25, 0.9, 1.0, 7.0])
    assert y == [-1, -1, -1, -0.5, -0.5, 0, 0.5, 1, 1, 1]
    assert gradient == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    assert _on(Quantisation(levels=2), [-0.1, 0.1])[0] == [-1, 1]


@pytest.mark.parametrize("levels", [2, 3, 8, 256])
def test_every_value_goes_to_the_nearest_of_the_levels(levels: int):
    x = torch.linspace(-1, 1, 5003, dtype=torch.float64).view(1, 1, 1, -1)
    operator = Quantisation(levels=levels).bind({}, (1, 1, 5003))
    y = operator(x)
    assert len(y.unique()) == levels and float((y - x).abs().max()) <= 1 / (levels - 1) + 1e-12
    torch.testing.assert_close(operator(y), y)
    torch.testing.assert_close(operator(x.float()).unique(), y.unique().float(), rtol=0, atol=1e-6)


def test_256_levels_are_8_bits():
    pixels = torch.arange(256).view(1, 1, 16, 16)
    x = pixels.float() / 127.5 - 1
    torch.testing.assert_close(Quantisation(levels=256).bind({}, (1, 16, 16))(x), x, rtol=0, atol=2e-7)


def test_contrast_by_hand():
    y, gradient = _on(HighDynamicRange(), [-1.0, -0.5, -0.25, 0.0, 0.4, 0.51])
    assert y == pytest.approx([-1, -1, -0.5, 0, 0.8, 1])
    assert gradient == [0, 2, 2, 2, 2, 0]
    assert HighDynamicRange(factor=3).bind({}, (1, 8, 8)).norm() == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Quantisation(levels=1), "levels must be"),
        (lambda: Quantisation(levels=257), "levels must be"),
        (lambda: HighDynamicRange(factor=1.0), "factor must be"),
        (lambda: HighDynamicRange(factor=math.nan), "factor must be"),
    ],
)
def test_options_out_of_range_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
