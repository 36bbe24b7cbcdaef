"""What every linear operator promises beside: adjoint and singular value decomposition at all shapes, the rest at two;
found as in test_every_operator.py.
"""

from collections.abc import Callable

import pytest
import torch
from operator_examples import CASES, INDEX, Case, each, normal, two
from torch import Tensor

from degradations.base import Operator, Shape

LINEAR = [case for case in CASES if case.linear]
WITH_SVD = [case for case in LINEAR if case.make(case.shapes[0], INDEX).svd is not None]
every, every_with_svd = each(LINEAR), each(WITH_SVD)
twice, twice_with_svd = each(LINEAR, two), each(WITH_SVD, two)
small = each(LINEAR, lambda case: [shape for shape in case.shapes if shape[0] * shape[1] * shape[2] <= 192])


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-9))


def _truncated(operator: Operator) -> Callable[[Tensor], Tensor]:
    """A without the singular values that the pseudo-inverse takes for zero."""
    svd = operator.svd
    values = torch.where(svd.singular_values > operator.threshold, svd.singular_values, 0)
    return lambda x: svd.u(values.to(x) * svd.vt(x))


def _dense(function: Callable[[Tensor], Tensor], shape: Shape) -> Tensor:
    """The matrix [m, n] of a linear function of one image, by pushing the identity through."""
    size = shape[0] * shape[1] * shape[2]
    return function(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1).mT


@every
def test_adjoint(case: Case, shape: Shape):
    """<A x, y> = <x, A^T y> for 12 pairs, relative to |A x| |y|; and A^T y is the gradient of <A x, y>."""
    operator = case.make(shape, INDEX)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        for seed in range(4):
            x = normal(seed, 3, *shape, dtype=dtype)
            y = normal(100 + seed, 3, *operator.output_shape, dtype=dtype)
            forward, backward = operator(x), operator.adjoint(y)
            scale = forward.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
            assert ((_inner(forward, y) - _inner(x, backward)).abs() <= tolerance * scale + 1e-30).all()
    x = normal(1, 3, *shape).requires_grad_()
    y = normal(2, 3, *operator.output_shape)
    (gradient,) = torch.autograd.grad(_inner(operator(x), y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=0, atol=1e-12)


@every_with_svd
def test_svd(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    svd = operator.svd
    x, y, c = (
        normal(1, 3, *shape),
        normal(2, 3, *operator.output_shape),
        normal(3, 3, x_size := shape[0] * shape[1] * shape[2]),
    )
    assert x_size == svd.singular_values.shape[-1]
    torch.testing.assert_close(svd.v(svd.vt(x)), x, rtol=0, atol=1e-11)  # V V^T = I
    torch.testing.assert_close(svd.vt(svd.v(c)), c, rtol=0, atol=1e-11)  # V^T V = I
    lost = (svd.singular_values == 0).expand_as(c)
    on_range = torch.where(lost, 0.0, c)
    torch.testing.assert_close(svd.ut(svd.u(on_range)), on_range, rtol=0, atol=1e-11)  # U^T U = I on the range
    assert (svd.ut(y)[lost] == 0).all()
    # U^T is the adjoint of U
    torch.testing.assert_close(_inner(svd.u(on_range), y), _inner(on_range, svd.ut(y)), rtol=0, atol=1e-9)
    torch.testing.assert_close(_inner(svd.v(c), x), _inner(c, svd.vt(x)), rtol=0, atol=1e-9)
    torch.testing.assert_close(svd.u(svd.singular_values * svd.vt(x)), operator(x), rtol=0, atol=1e-11)  # A = U S V^T
    torch.testing.assert_close(svd.v(svd.singular_values * svd.ut(y)), operator.adjoint(y), rtol=0, atol=1e-11)
    kept = svd.singular_values > operator.threshold
    solved = svd.v(torch.where(kept, svd.ut(y) / torch.where(kept, svd.singular_values, 1.0), 0.0))
    torch.testing.assert_close(solved, operator.pseudo_inverse(y), rtol=1e-9, atol=1e-9)


@twice_with_svd
def test_moore_penrose_and_null_space(case: Case, shape: Shape):
    """The four identities on the truncated operator where small singular values are taken for zero; A (P z) = 0 with
    P = I - A^+ A; |A - truncated A| <= threshold, and A^+ amplifies by at most 1 / threshold.
    """
    operator = case.make(shape, INDEX)
    truncated, inverse = _truncated(operator), operator.pseudo_inverse
    x, y = normal(1, 3, *shape), normal(2, 3, *operator.output_shape)
    x2, y2 = normal(3, 3, *shape), normal(4, 3, *operator.output_shape)
    assert _relative(truncated(inverse(truncated(x))), truncated(x)) < 1e-8
    assert _relative(inverse(truncated(inverse(y))), inverse(y)) < 1e-8
    on_y = _inner(truncated(inverse(y)), y2) - _inner(y, truncated(inverse(y2)))
    on_x = _inner(inverse(truncated(x)), x2) - _inner(x, inverse(truncated(x2)))
    assert on_y.abs().max() < 1e-8 * y.norm() * y2.norm() and on_x.abs().max() < 1e-8 * x.norm() * x2.norm()
    null = x2 - inverse(truncated(x2))
    assert truncated(null).norm() < 1e-8 * x2.norm()
    assert operator(null).norm() <= (operator.threshold + 1e-8) * x2.norm()
    measured = operator(x)
    torch.testing.assert_close(truncated(inverse(measured) + null), truncated(inverse(measured)), rtol=0, atol=1e-8)
    assert (measured - truncated(x)).norm() <= operator.threshold * x.norm() + 1e-10
    assert operator.threshold * inverse(y).norm() <= y.norm() * (1 + 1e-10)


@small
def test_dense(case: Case, shape: Shape):
    """Everything against numerical linear algebra on the matrix of one image; the largest row sum of |A| is the range,
    reached by the signs of that row.
    """
    operator = case.make(shape, INDEX[:1])
    size, measured = shape[0] * shape[1] * shape[2], torch.Size(operator.output_shape).numel()
    matrix = _dense(operator.repeat(size), shape)
    backward = _dense(operator.repeat(measured).adjoint, operator.output_shape)
    torch.testing.assert_close(backward, matrix.mT, rtol=0, atol=1e-12)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    tau = operator.threshold
    cut = torch.where(values > max(tau, 1e-12), 1 / values.clamp(min=1e-12), 0.0)
    exact = operator.svd is not None
    gain = cut if exact or tau == 0 else values / (values.square() + tau**2)  # conjugate gradients damp instead
    inverse = _dense(operator.repeat(measured).pseudo_inverse, operator.output_shape)
    torch.testing.assert_close(inverse, vt.mT @ (gain[:, None] * u.mT), rtol=0, atol=1e-9 if exact else 1e-5)
    norm, (low, high) = float(values[0]), operator.output_range
    assert norm <= operator.norm() * (1 + 1e-12)
    best = matrix.abs().sum(1).argmax()
    worst = torch.where(matrix[best] < 0, -1.0, 1.0).double().view(1, *shape)
    reached = float(operator(worst).max())
    assert reached <= high + 1e-12 and float(operator(-worst).min()) >= low - 1e-12
    assert case.make(shape, INDEX).output_range[1] >= high - 1e-12
    if exact:
        found = operator.svd.singular_values.flatten().sort(descending=True).values
        torch.testing.assert_close(found[: len(values)], values, rtol=0, atol=1e-12)
        assert (found[len(values) :] < 1e-12).all()
        assert operator.norm() == pytest.approx(norm, abs=1e-12) or norm == 0
        assert norm == 0 or reached == pytest.approx(high, abs=1e-12)


@twice
def test_linear_with_the_norm_that_it_says(case: Case, shape: Shape):
    """By power iteration: an upper bound; the norm itself where there is an SVD."""
    operator = case.make(shape, INDEX)
    x, z = normal(1, 3, *shape), normal(2, 3, *shape)
    torch.testing.assert_close(operator(1.5 * x - 0.3 * z), 1.5 * operator(x) - 0.3 * operator(z), rtol=0, atol=1e-12)
    assert (operator(torch.zeros_like(x)) == 0).all()
    for _ in range(60):
        x = operator.adjoint(operator(x / x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)))
    found = float(x.flatten(1).norm(dim=1).max()) ** 0.5
    assert found <= operator.norm() * (1 + 1e-9)
    if operator.svd is not None:
        assert found >= 0.97 * operator.norm() or float(operator.svd.singular_values.max()) == 0
