"""Operators made of steps: what stands for their derivative, which is 0 almost everywhere."""

from torch import Tensor


def with_gradient_of(value: Tensor, smooth: Tensor) -> Tensor:
    """`value`, to the last bit, with the gradient of `smooth`, of the same shape: the straight-through estimator
    (Bengio et al. 2013, 1308.3432).

    smooth - smooth is 0 exactly, which value + (smooth - value) would not be.
    """
    return value.detach() + (smooth - smooth.detach())
