"""The gradient of the squared residual in the image, for operators that are linear and for those that are not."""

import torch
from torch import Tensor

from degradations.base import Operator


def data_gradient(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of |y - A x|^2 / 2 in x: A^T (A x - y), by automatic differentiation where A is not linear.

    Args:
        operator: A, for x.
        x: images [B, C, H, W].
        y: measurements [B, *output_shape].

    Returns:
        [B, C, H, W], without a graph.
    """
    if operator.linear:
        return operator.adjoint(operator(x) - y)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad((y - operator(x)).square().sum() / 2, x)
    return gradient
