"""Average pooling and bicubic downsampling: alignment, known weights, and what is refused."""

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.bicubic import Bicubic, bicubic_axis, cubic

RANDOM = RandomStreams(0)


@pytest.mark.parametrize("degradation", [AveragePool, Bicubic])
@pytest.mark.parametrize(("shape", "factor"), [((1, 28, 28), 2), ((3, 32, 40), 4), ((1, 27, 45), 3), ((1, 24, 24), 1)])
def test_ramp_is_sampled_at_the_block_centres(degradation: type, shape: tuple[int, int, int], factor: int):
    """x[i, j] = a i + b j gives a c_I + b c_J, c_I = (I + 1/2) f - 1/2: half-pixel alignment, in both directions."""
    _, height, width = shape
    x = 0.03 * torch.arange(height).double()[:, None] - 0.02 * torch.arange(width).double()
    y = degradation(factor=factor).operator_for(shape, [0], RANDOM)(x.expand(1, *shape))
    rows = (torch.arange(height // factor).double() + 0.5) * factor - 0.5
    columns = (torch.arange(width // factor).double() + 0.5) * factor - 0.5
    expected = 0.03 * rows[:, None] - 0.02 * columns
    # bicubic: two output pixels feel the reflected border
    cut = slice(None) if degradation is AveragePool else slice(2, -2)
    torch.testing.assert_close(y[0, 0][cut, cut], expected[cut, cut], rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_symmetric_and_sums_to_one(factor: int):
    matrix = bicubic_axis(12 * factor, factor).matrix
    torch.testing.assert_close(matrix, matrix.flip(0, 1), rtol=0, atol=1e-15)
    torch.testing.assert_close(matrix.sum(1), torch.ones(12).double(), rtol=0, atol=1e-15)
    # inside, all rows are the same kernel, moved
    torch.testing.assert_close(matrix[5, factor:], matrix[4, :-factor], rtol=0, atol=1e-15)
    assert int((matrix[5].abs() > 1e-12).sum()) == {2: 8, 3: 9, 4: 16}[factor]  # 4 f; odd: the cubic's zeros


def test_bicubic_weights_by_hand():
    """Factor 2: offsets +-1/4, 3/4, 5/4, 7/4 of an output pixel; 256 times the weights of Keys' cubic, halved."""
    weights = bicubic_axis(20, 2).matrix[5, 7:15]
    expected = torch.tensor([-3.0, -9.0, 29.0, 111.0, 111.0, 29.0, -9.0, -3.0]).double() / 256
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-15)
    assert cubic(torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5, 1.5])).tolist() == [1.0, 0.0, 0.0, 0.0, 0.5625, -0.0625]


def test_pooling_by_hand():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    operator = AveragePool(factor=2).operator_for((1, 4, 4), [0], RANDOM)
    assert operator(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert operator.pseudo_inverse(operator(x))[0, 0, 0].tolist() == [2.5, 2.5, 4.5, 4.5]
    assert operator.adjoint(operator(x))[0, 0, 3].tolist() == [2.625, 2.625, 3.125, 3.125]
    assert operator.norm() == 0.5 and operator.output_shape == (1, 2, 2)


def test_checkerboard_vanishes():
    x = (1.0 - 2.0 * ((torch.arange(28)[:, None] + torch.arange(28)) % 2)).double().expand(1, 1, 28, 28)
    assert AveragePool(factor=2).operator_for((1, 28, 28), [0], RANDOM)(x).abs().max() == 0
    inside = Bicubic(factor=2).operator_for((1, 28, 28), [0], RANDOM)(x)[..., 2:-2, 2:-2]
    assert inside.abs().max() < 1e-15  # an even kernel meets as many +1 as -1 of each weight


def test_bicubic_overshoots_and_says_so():
    """The gain of 8 taps: 2 (111 + 29 + 9 + 3) / 256 = 1.1875 per axis."""
    low, high = Bicubic(factor=2).operator_for((1, 28, 28), [0], RANDOM).output_range
    assert high == pytest.approx(1.1875**2, abs=1e-12) and low == -high


@pytest.mark.parametrize("degradation", [AveragePool, Bicubic])
def test_refuses(degradation: type):
    with pytest.raises(
        UserError, match=r"factor=8 does not divide the image of 28x28 pixels: choose one of \[2, 4, 7, 14, 28\]"
    ):
        degradation(factor=8).operator_for((1, 28, 28), [0], RANDOM)
    with pytest.raises(UserError, match=r"factor=4 does not divide the image of 28x30 pixels: choose one of \[2\]"):
        degradation(factor=4).operator_for((1, 28, 30), [0], RANDOM)
    with pytest.raises(UserError, match=r"factor=2 does not divide the image of 7x5 pixels: crop"):
        degradation(factor=2).operator_for((1, 7, 5), [0], RANDOM)
    for factor in (0, -2):
        with pytest.raises(UserError, match="factor must be a whole number"):
            degradation(factor=factor)


def test_building_twice_is_cheap():
    assert bicubic_axis(28, 2) is bicubic_axis(28, 2)
