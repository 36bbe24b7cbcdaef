"""The import hook is at work: a function whose result has another shape than it promises fails a test."""

import pytest
import torch
from jaxtyping import TypeCheckError
from shape_checks import only_shapes
from torch import Tensor

from common.tensor_shapes import Images, PerImage, Sigma
from degradations.identity import IdentityOperator
from metrics.distortion import mse


def _decorated(function):
    from jaxtyping import jaxtyped

    return jaxtyped(function, typechecker=only_shapes)


def level(x: Images, sigma: Sigma, other: "object" = None) -> PerImage:
    del other
    return sigma if sigma.ndim == 1 else x


def test_other_shapes_than_promised_are_named():
    checked, x = _decorated(level), torch.zeros(3, 1, 4, 4)
    assert checked(x, torch.ones(3)).shape == (3,)
    with pytest.raises(TypeCheckError, match="sigma"):
        checked(x, torch.ones(2))
    with pytest.raises(TypeCheckError):
        checked(x, torch.ones(3, 1, 4, 4))  # the result is no number for each image


def test_a_map_has_the_size_of_the_images():
    def halved(x: Images, sigma: Sigma) -> Images:
        return x / sigma

    x = torch.zeros(3, 1, 4, 4, dtype=torch.float64)
    assert _decorated(halved)(x, torch.ones(3, 1, 4, 4)).shape == x.shape
    with pytest.raises(TypeCheckError, match="sigma"):
        _decorated(halved)(x, torch.ones(3, 1, 1, 4))


def test_the_rooms_are_checked():
    """Without the hook this operator returns whatever it is given."""
    operator = IdentityOperator((1, 4, 4))
    with pytest.raises(TypeCheckError, match="x"):
        operator(torch.zeros(4, 4))


def test_what_a_function_refuses_it_refuses_in_its_own_words():
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="same shape"):
        mse(x, x[:1])


def test_other_annotations_are_not_looked_at():
    def named(x: Images, name: int) -> Tensor:
        del name
        return x.sum()

    assert _decorated(named)(torch.zeros(1, 1, 2, 2), "no number").ndim == 0
