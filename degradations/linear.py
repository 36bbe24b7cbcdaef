"""Linear algebra with operators: the proximal step of a data term, ridge regression, the pseudo-inverse.

By the singular value decomposition where the operator has one in closed form (a mask is its own, a circular blur's is
its FFT), else by conjugate gradients. Batched: every image of a batch is solved and stopped by itself.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.errors import UserError
from degradations.base import Operator

#: The gradient of what is minimised, relative to that at the start: float64 resolves it well below what 8 bits show.
TOLERANCE = 1e-8
#: Enough for a condition number of A^T A + weight I of 9e4 (sqrt(9e4) / 2 * log(2 / TOLERANCE) = 2,900).
ITERATIONS = 3000
#: Iterations between two looks at the device.
_LOOK = 8

Map = Callable[[Tensor], Tensor]


def proximal(
    operator: Operator,
    x: Tensor,
    y: Tensor,
    weight: Tensor | float,
    *,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Tensor:
    """argmin_z |A z - y|^2 + weight |z - x|^2 = x + (A^T A + weight I)^-1 A^T (y - A x); for weight 0 its limit, x +
    A^+ (y - A x).

    The proximal operator of the data term |A z - y|^2 / (2 weight), as half-quadratic splitting, DiffPIR and ADMM take
    it. Differentiable in x, y and weight: by the formula where there is a singular value decomposition; else by the
    implicit function, a second solve of the same size (not in weight where that is 0).

    Args:
        operator: A, linear; one for all images, or one for each.
        x: images [B, C, H, W], what z is near to.
        y: measurements [B, *output_shape].
        weight: at least 0; a number, or [B], one for each image. For noise of sigma s and a prior N(x, r^2 I) it is
            s^2 / r^2. With weight 0 singular values up to the operator's threshold are taken for zero.
        tolerance: of conjugate gradients, alone: |A^T (A z - y) + weight (z - x)| relative to that at z = x, for each
            image.
        iterations: of conjugate gradients, at most; a warning says what was reached where that is not the tolerance.

    Returns:
        z [B, C, H, W] in the dtype of x. Conjugate gradients compute in float64: in float32 the gradient of an
        ill-conditioned blur stalls at 1e-4.

    Raises:
        UserError: where A is not linear.
        ValueError: where shapes do not fit, or a weight is negative or not finite.
    """
    weights = _checked("proximal", operator, x, y, weight)
    svd = operator.svd
    if svd is None:
        correction = _solve(operator, y - operator(x), weights, tolerance, iterations)
        return x + correction
    values = svd.singular_values.to(x.device)
    column = weights[:, None]
    least = torch.where(column > 0, 0.0, operator.threshold)
    kept = (values > least) & (values > 0)
    gain = torch.where(kept, values / torch.where(kept, values.square() + column, 1.0), 0.0).to(x.dtype)
    return x + svd.v(gain * (svd.ut(y).to(x.dtype) - values.to(x.dtype) * svd.vt(x))).to(x.dtype)


def ridge(
    operator: Operator,
    y: Tensor,
    weight: Tensor | float,
    *,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Tensor:
    """argmin_z |A z - y|^2 + weight |z|^2 = A^T (A A^T + weight I)^-1 y; see :func:`proximal`, of which it is the step
    from x = 0.
    """
    x = torch.zeros(len(y), *operator.input_shape, dtype=y.dtype, device=y.device)
    return proximal(operator, x, y, weight, tolerance=tolerance, iterations=iterations)


def pseudo_inverse(
    operator: Operator, y: Tensor, *, tolerance: float = TOLERANCE, iterations: int = ITERATIONS
) -> Tensor:
    """A^+ y: of all images that explain y best, the one of least norm.

    The operator's own where it has a singular value decomposition. Else by conjugate gradients from 0: the exact one
    for a threshold of 0, and :func:`ridge` with weight threshold^2 for a larger one, which damps small singular values
    where truncation would cut them (noise is amplified by at most 1 / (2 threshold)).

    Args:
        operator: A, linear.
        y: measurements [B, *output_shape].
        tolerance, iterations: see :func:`proximal`.

    Raises:
        UserError: where A is not linear.
    """
    _refuse_not_linear("pseudo_inverse", operator)
    if operator.svd is not None:
        return operator.pseudo_inverse(y)
    return ridge(operator, y, operator.threshold**2, tolerance=tolerance, iterations=iterations)


def as_matrix(operator: Operator) -> Tensor:
    """A of one image as a matrix [M, D], float64, of M measured and D image values: for small images.

    Raises:
        UserError: where A is not linear.
    """
    _refuse_not_linear("as_matrix", operator)
    values = math.prod(operator.input_shape)
    basis = torch.eye(values, dtype=torch.float64).view(values, *operator.input_shape)
    return operator.repeat(values)(basis).flatten(1).mT


def damped_least_squares(
    forward: Map, adjoint: Map, b: Tensor, weight: Tensor, *, tolerance: float, iterations: int, name: str
) -> Tensor:
    """argmin_d |F d - b|^2 + weight |d|^2 by conjugate gradients from d = 0, in the dtype of b.

    CGLS (Hestenes and Stiefel 1952; Paige and Saunders 1982, 7.1): the residual b - F d is carried along, which is
    more accurate than conjugate gradients on F^T F. An image whose gradient is small enough rests, so that the others
    do not change it.

    Args:
        forward, adjoint: F and F^T, batched.
        b: [B, ...].
        weight: [B], at least 0.
        tolerance, iterations: see :func:`proximal`.
        name: of F, for the warning.
    """

    def column(values: Tensor, like: Tensor) -> Tensor:
        return values.view(-1, *[1] * (like.ndim - 1))

    residual = b
    gradient = adjoint(b)
    d, step = torch.zeros_like(gradient), gradient
    square = _square(gradient)
    goal = tolerance**2 * square
    for i in range(iterations):
        active = square > goal
        if i % _LOOK == 0 and not bool(active.any()):
            break
        image = forward(step)
        curvature = _square(image) + weight * _square(step)
        alpha = torch.where(active & (curvature > 0), square / curvature.clamp(min=1e-300), 0.0)
        d = d + column(alpha, d) * step
        residual = residual - column(alpha, b) * image
        gradient = torch.where(column(active, d), adjoint(residual) - column(weight, d) * d, gradient)
        before, square = square, _square(gradient)
        step = gradient + column(square / before.clamp(min=1e-300), d) * step
    missed = ~(square <= goal)  # NaN too
    if bool(missed.any()):
        reached = float((square / goal.clamp(min=1e-300))[missed].max().sqrt()) * tolerance
        if not torch.isfinite(d).all():
            raise ValueError(f"conjugate gradients with {name} diverged: is its adjoint A^T the one of A?")
        warnings.warn(
            f"conjugate gradients with {name} reached a relative gradient of {reached:.1e} after {iterations}"
            f" iterations in {int(missed.sum())} of {len(b)} images, not {tolerance:.1e}: what it solves is nearly"
            " singular; give a larger weight or threshold, more iterations, or a larger tolerance",
            stacklevel=2,
        )
    return d


class _Solve(torch.autograd.Function):
    """d = (A^T A + w I)^-1 A^T b in float64; its derivatives from u = (A A^T + w I)^-1 A g: in b u, in w -<(A^T A + w
    I)^-1 g, d> = -<g - A^T u, d> / w.
    """

    @staticmethod
    def forward(ctx, operator: Operator, b: Tensor, weight: Tensor, tolerance: float, iterations: int) -> Tensor:
        name = operator.description or type(operator).__name__
        options = {"tolerance": tolerance, "iterations": iterations, "name": name}
        d = damped_least_squares(operator, operator.adjoint, b, weight, **options)
        ctx.operator, ctx.options = operator, options
        ctx.save_for_backward(weight, d)
        return d

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        weight, d = ctx.saved_tensors
        operator = ctx.operator
        u = damped_least_squares(operator.adjoint, operator, g, weight, **ctx.options)
        by_weight = None
        if ctx.needs_input_grad[2]:
            by_weight = -((g - operator.adjoint(u)) * d).flatten(1).sum(1) / weight
        return None, u, by_weight, None, None


def _solve(operator: Operator, b: Tensor, weight: Tensor, tolerance: float, iterations: int) -> Tensor:
    """(A^T A + w I)^-1 A^T b in the dtype of b, solved in float64."""
    with torch.autocast(b.device.type, enabled=False):
        return _Solve.apply(operator, b.double(), weight, tolerance, iterations).to(b.dtype)


def _checked(name: str, operator: Operator, x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    """The weights, float64 [B]; UserError and ValueError for what does not fit."""
    _refuse_not_linear(name, operator)
    if tuple(x.shape[1:]) != tuple(operator.input_shape) or tuple(y.shape[1:]) != tuple(operator.output_shape):
        raise ValueError(
            f"{name} needs x [B, {', '.join(map(str, operator.input_shape))}] and y [B,"
            f" {', '.join(map(str, operator.output_shape))}], got {list(x.shape)} and {list(y.shape)}"
        )
    if len(x) != len(y):
        raise ValueError(f"{name} needs as many images as measurements, got {len(x)} and {len(y)}")
    weights = torch.as_tensor(weight, dtype=torch.float64, device=x.device)
    if weights.ndim > 1 or (weights.ndim == 1 and len(weights) not in (1, len(x))):
        raise ValueError(f"weight must be a number or [{len(x)}], one for each image, got {list(weights.shape)}")
    # on another device a look would wait for it
    if weights.device.type == "cpu" and not bool(((weights >= 0) & torch.isfinite(weights)).all()):
        raise ValueError(f"weight must be finite and at least 0, got {weights.tolist()}")
    return weights.expand(len(x))


def _refuse_not_linear(name: str, operator: Operator) -> None:
    if not operator.linear:
        raise UserError(
            f"{name} needs a linear operator, and {operator.description or type(operator).__name__} is not: take a"
            " method that uses A itself alone (dps, dip)"
        )


def _square(values: Tensor) -> Tensor:
    """The squared length of each image, [B]."""
    return values.flatten(1).square().sum(1)
