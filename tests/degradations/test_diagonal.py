"""The operators of single severities that are no leaf of a config: soft masks, a scale, a fading colour. The battery
has them too.
"""

import pytest
import torch

from degradations.colour_mix import ColourMix
from degradations.diagonal import Diagonal
from degradations.mask import Mask
from degradations.scaled import Scaled


def _weights(*shape: int) -> torch.Tensor:
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights[..., 0, 0], weights[..., 0, 1], weights[..., 0, 2] = 0, 0.02, 1
    return weights


@pytest.mark.parametrize("shape", [(1, 1, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 4, 5)])
def test_a_soft_mask_is_a_diagonal_matrix(shape):
    """Against dense matrices, with weights that are shared by images or channels, or not."""
    weights = _weights(*shape)
    operator, x = (
        Diagonal(weights, channels=3),
        torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    matrix = torch.diag_embed(weights.expand(2, 3, 4, 5).flatten(1))
    inverse = torch.linalg.pinv(matrix, atol=operator.threshold, rtol=0.0)
    torch.testing.assert_close(operator(x).flatten(1), (matrix @ x.flatten(1)[..., None])[..., 0])
    torch.testing.assert_close(operator.pseudo_inverse(x).flatten(1), (inverse @ x.flatten(1)[..., None])[..., 0])
    assert operator.norm() == 1 and operator.output_range == (-1, 1) and operator.mask is None
    torch.testing.assert_close(operator.repeat(3)(x.repeat_interleave(3, 0)), operator(x).repeat_interleave(3, 0))


@pytest.mark.parametrize("make", [lambda w: Diagonal(w, channels=1), lambda w: Mask(w.round(), channels=1)])
def test_another_number_of_images_is_refused_by_every_direction(make):
    operator, y = make(_weights(3, 1, 4, 5)), torch.ones(1, 1, 4, 5)
    for direction in (operator, operator.adjoint, operator.pseudo_inverse, operator.svd.ut):
        with pytest.raises(ValueError, match="holds 3 masks, got 1 images"):
            direction(y)


def test_a_pseudo_inverse_takes_small_gains_for_zero():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grey = x.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(ColourMix(0.02, (3, 4, 5)).pseudo_inverse(x), grey)
    torch.testing.assert_close(ColourMix(0.5, (3, 4, 5)).pseudo_inverse(x), grey + 2 * (x - grey))
    # one gain for all: nothing is lost, however small it is
    torch.testing.assert_close(Scaled(1e-3, (3, 4, 5)).pseudo_inverse(x), 1000 * x)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Diagonal(torch.ones(1, 2, 4, 5), channels=3), r"\[B, 1 or 3, H, W\]"),
        (lambda: Diagonal(torch.ones(4, 5), channels=3), r"\[B, 1 or 3, H, W\]"),
        (lambda: Diagonal(torch.full((1, 1, 4, 5), 1.1), channels=3), r"in \[0, 1\]"),
        (lambda: Diagonal(torch.full((1, 1, 4, 5), float("nan")), channels=3), r"in \[0, 1\]"),
        (lambda: Scaled(0.0, (3, 4, 5)), r"in \(0, 1\], got 0.0"),
        (lambda: Scaled(float("nan"), (3, 4, 5)), r"in \(0, 1\]"),
        (lambda: ColourMix(0.5, (1, 4, 5)), "three channels"),
        (lambda: ColourMix(1.5, (3, 4, 5)), r"share of colour in \[0, 1\]"),
    ],
)
def test_mistaken_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()
