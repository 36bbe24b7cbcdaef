"""Grey from colour: known numbers of the reference, and what is refused."""

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.grey import Grey, GreyOperator

RANDOM = RandomStreams(0)
LUMA = [0.299, 0.587, 0.114]


def test_mean_of_the_channels_and_replication():
    operator = Grey().operator_for((3, 5, 7), [0, 1], RANDOM)
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(operator(x), x.mean(1, keepdim=True))
    y = operator(x)
    torch.testing.assert_close(operator.pseudo_inverse(y), y.expand(-1, 3, -1, -1))
    assert operator.output_shape == (1, 5, 7)
    assert operator.norm() == pytest.approx(0.57735, abs=1e-5)
    assert operator.output_range == pytest.approx((-1, 1))


def test_luma_of_the_reference():
    """norm 0.66855; A^+ gives a tint, (.66896, 1.31330, .25505) y."""
    operator = Grey(weights=LUMA).operator_for((3, 1, 1), [0], RANDOM)
    assert operator.norm() == pytest.approx(0.66855, abs=1e-5)
    tint = operator.pseudo_inverse(torch.ones(1, 1, 1, 1, dtype=torch.float64)).flatten()
    assert tint.tolist() == pytest.approx([0.66896, 1.31330, 0.25505], abs=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 2.0], LUMA, [1e-9, -1.0, 0.5]])
def test_basis_is_orthonormal_in_every_direction(weights: list[float]):
    operator = Grey(weights=weights).operator_for((3, 1, 1), [0], RANDOM)
    basis = operator.svd.vt(torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)).mT
    torch.testing.assert_close(basis @ basis.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        basis[0] * operator.norm(), torch.tensor(weights, dtype=torch.float64), rtol=0, atol=1e-14
    )


def test_refuses():
    with pytest.raises(UserError, match="needs colour images with 3 channels, these have 1"):
        Grey().operator_for((1, 8, 8), [0], RANDOM)
    for weights in ([1.0], [0.0, 0.0, 0.0], [1.0, float("nan"), 0.0], [1.0, float("inf"), 0.0]):
        with pytest.raises(UserError, match="three finite numbers"):
            Grey(weights=weights)
    with pytest.raises(ValueError, match="3 channels"):
        GreyOperator([0.5, 0.5], (3, 8, 8))
