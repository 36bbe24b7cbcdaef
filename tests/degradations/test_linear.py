"""Proximal step, ridge and pseudo-inverse against dense linear algebra in float64, for operators with and without a
singular value decomposition.
"""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations import linear
from degradations.at_severity import AtSeverity
from degradations.average_pool import AveragePool
from degradations.base import SVD, Degradation, Operator, Shape
from degradations.bicubic import Bicubic
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.composition import ComposedOperator, Composition
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.lanczos import Lanczos
from degradations.random_mask import RandomMask
from degradations.reflecting_blur import ReflectingGaussianBlur
from degradations.severity.desaturation import Desaturation
from degradations.severity.gaussian_mask import GaussianMask
from degradations.severity.snow import Snow

SHAPE: Shape = (3, 8, 8)
INDEX = [3, 7, 11]
OPERATORS: dict[str, Degradation] = {
    "identity": Identity(),
    "box": BoxMask(),
    "random": RandomMask(removed=0.5),
    "circular": CircularGaussianBlur(std=0.75),
    "reflecting": ReflectingGaussianBlur(std=1.0),
    "pool": AveragePool(factor=2),
    "bicubic": Bicubic(factor=2),
    "lanczos": Lanczos(factor=2),
    "grey": Grey(),
    "soft_mask": AtSeverity(family=GaussianMask(), severity=20),
    "colour": AtSeverity(family=Desaturation(), severity=8),
    "blur_mask": Composition(parts=[ReflectingGaussianBlur(std=1.0), RandomMask(removed=0.3)]),
    "mask_blur": Composition(parts=[RandomMask(removed=0.3), CircularGaussianBlur(std=0.6)]),
    "blur_pool_mask": Composition(
        parts=[CircularGaussianBlur(std=0.6), AveragePool(factor=2), RandomMask(removed=0.2)]
    ),
    "grey_bicubic": Composition(parts=[Grey(), Bicubic(factor=2)]),
}
each = pytest.mark.parametrize("name", OPERATORS)


class WithoutSVD(Operator):
    """The same operator for which conjugate gradients are all there is."""

    def __init__(self, inner: Operator) -> None:
        self.inner, self.description, self.threshold = inner, f"{inner.description}, no SVD", inner.threshold
        self.input_shape, self.output_shape = inner.input_shape, inner.output_shape

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)


def bound(name: str, index: list[int] = INDEX) -> Operator:
    return OPERATORS[name].operator_for(SHAPE, index, RandomStreams(0))


def both_ways(name: str) -> list[Operator]:
    operator = bound(name)
    return [operator] if operator.svd is None else [operator, WithoutSVD(operator)]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrices(name: str) -> list[Tensor]:
    """The matrix of each image."""
    return [linear.as_matrix(bound(name, [index])) for index in INDEX]


def solved(name: str, x: Tensor, y: Tensor, weights: list[float]) -> Tensor:
    """argmin_z |A z - y|^2 + w |z - x|^2 as one least-squares problem, by LAPACK."""
    found = []
    for k, (a, w) in enumerate(zip(matrices(name), weights, strict=True)):
        tall = torch.cat([a, w**0.5 * torch.eye(a.shape[1], dtype=a.dtype)])
        right = torch.cat([y[k].flatten(), w**0.5 * x[k].flatten()])
        found.append(torch.linalg.lstsq(tall, right[:, None]).solution[:, 0].view(SHAPE))
    return torch.stack(found)


@each
def test_a_matrix_does_what_its_operator_does(name: str):
    for k, a in enumerate(matrices(name)):
        x = normal(k, 1, *SHAPE)
        torch.testing.assert_close(a @ x.flatten(), bound(name, [INDEX[k]])(x).flatten(), rtol=0, atol=1e-12)


@each
def test_proximal_solves_the_least_squares_problem(name: str):
    """Weights from that of a noisy to that of a nearly exact measurement, one for each image. A gradient of length e
    is at most e / weight away from the solution.
    """
    weights = [1e-4, 0.03, 2.0]
    x = normal(1, 3, *SHAPE)
    for operator in both_ways(name):
        y = normal(2, 3, *operator.output_shape)
        found = linear.proximal(operator, x, y, torch.tensor(weights, dtype=torch.float64))
        error = (found - solved(name, x, y, weights)).flatten(1).norm(dim=1)
        gradient = operator.adjoint(y - operator(x)).flatten(1).norm(dim=1)
        assert bool((error <= 1e-9 + linear.TOLERANCE * gradient / torch.tensor(weights)).all()), error
        same = linear.proximal(operator, x, y, 0.03)
        torch.testing.assert_close(same, solved(name, x, y, [0.03] * 3), rtol=0, atol=5e-6)


@each
def test_ridge_is_the_step_from_zero(name: str):
    for operator in both_ways(name):
        y = normal(2, 3, *operator.output_shape)
        zero = torch.zeros(3, *SHAPE, dtype=torch.float64)
        torch.testing.assert_close(
            linear.ridge(operator, y, 0.01), solved(name, zero, y, [0.01] * 3), rtol=0, atol=2e-6
        )


@each
def test_pseudo_inverse(name: str):
    """That of the matrix truncated at the threshold where there is an SVD, and where the threshold cuts nothing; else
    damped at it.
    """
    for operator in both_ways(name):
        y = normal(2, 3, *operator.output_shape)
        found = linear.pseudo_inverse(operator, y)
        tau = operator.threshold
        for k, a in enumerate(matrices(name)):
            u, s, vt = torch.linalg.svd(a, full_matrices=False)
            cut = torch.where(s > max(tau, 1e-9), 1 / s.clamp(min=1e-12), 0.0)
            damped = s / (s.square() + tau**2) if tau > 0 else cut
            gain = cut if operator.svd is not None else damped
            expected = vt.mT @ (gain * (u.mT @ y[k].flatten()))
            torch.testing.assert_close(found[k].flatten(), expected, rtol=0, atol=1e-4)
        assert operator.svd is not None or found.norm() <= y.norm() / (2 * max(tau, 1e-2)) * (1 + 1e-6)


@each
def test_weight_zero_keeps_what_the_measurement_does_not_see(name: str):
    """x + A^+ (y - A x): A z is what A can make of y, and z - x has no part in the null space."""
    operator = bound(name)
    if operator.threshold > 1e-3:
        pytest.skip("nearly singular: its pseudo-inverse is not the limit")
    x, y = normal(1, 3, *SHAPE), normal(2, 3, *operator.output_shape)
    for way in both_ways(name):
        found = linear.proximal(way, x, y, 0.0)
        torch.testing.assert_close(found, x + operator.pseudo_inverse(y - operator(x)), rtol=0, atol=1e-5)
        torch.testing.assert_close(linear.proximal(way, x, y, 1e-9), found, rtol=0, atol=1e-5)


@each
def test_gradients_are_those_of_finite_differences(name: str):
    """Through the closed form and through the implicit function."""
    weight = torch.tensor([0.02, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    for operator in both_ways(name):
        x, y = normal(1, 3, *SHAPE).requires_grad_(), normal(2, 3, *operator.output_shape).requires_grad_()
        z = linear.proximal(operator, x, y, weight, tolerance=1e-12)
        out = normal(3, *z.shape)
        found = torch.autograd.grad((z * out).sum(), (x, y, weight))
        for k, variable in enumerate((x, y, weight)):
            step = normal(4 + k, *variable.shape)
            with torch.no_grad():
                values = []
                for sign in (1, -1):
                    given = [v + sign * 1e-5 * step if i == k else v for i, v in enumerate((x, y, weight))]
                    values.append((linear.proximal(operator, *given, tolerance=1e-12) * out).sum())
            torch.testing.assert_close((found[k] * step).sum(), (values[0] - values[1]) / 2e-5, rtol=1e-5, atol=1e-6)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_images_one_by_one(name: str, dtype: torch.dtype):
    """Also where its images need different numbers of iterations."""
    weights = torch.tensor([1e-4, 1.0, 0.01])
    x = normal(1, 3, *SHAPE).to(dtype)
    operator = bound(name)
    y = normal(2, 3, *operator.output_shape).to(dtype)
    y[1] = operator(x)[1]  # nothing to do
    together = linear.proximal(operator, x, y, weights)
    assert together.dtype == dtype
    tolerance = 2e-5 if dtype == torch.float32 else 1e-9
    for k, index in enumerate(INDEX):
        one = slice(k, k + 1)
        alone = linear.proximal(bound(name, [index]), x[one], y[one], weights[one])
        torch.testing.assert_close(alone, together[one], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(together[1], x[1], rtol=0, atol=tolerance)
    again = linear.proximal(operator.repeat(2), *(v.repeat_interleave(2, 0) for v in (x, y, weights)))
    torch.testing.assert_close(again[::2], together, rtol=tolerance, atol=tolerance)


def test_tolerance_is_what_it_says():
    """|A^T (A z - y) + w (z - x)| relative to that at z = x, of every image."""
    operator = bound("blur_mask")
    x, y, weight = normal(1, 3, *SHAPE), normal(2, 3, *operator.output_shape), 1e-3

    def gradient(z: Tensor) -> Tensor:
        return (operator.adjoint(operator(z) - y) + weight * (z - x)).flatten(1).norm(dim=1)

    reached = [gradient(linear.proximal(operator, x, y, weight, tolerance=t)) / gradient(x) for t in (1e-2, 1e-5, 1e-9)]
    for relative, tolerance in zip(reached, (1e-2, 1e-5, 1e-9), strict=True):
        assert float(relative.max()) <= tolerance * 1.01
    assert float(reached[0].max()) > 1e-4, "it should not do more than it was asked for"


def test_what_was_not_reached_is_said():
    operator = bound("blur_mask")
    x, y = normal(1, 3, *SHAPE), normal(2, 3, *operator.output_shape)
    with pytest.warns(UserWarning, match=r"relative gradient of .* after 3 iterations in 3 of 3 images, not 1.0e-08"):
        linear.proximal(operator, x, y, 1e-6, iterations=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear.proximal(operator, x, y, 1e-3)


class WrongAdjoint(WithoutSVD):
    def adjoint(self, y: Tensor) -> Tensor:
        return -1e150 * self.inner.adjoint(y)


def test_a_wrong_adjoint_is_named():
    operator = WrongAdjoint(bound("identity"))
    with pytest.raises(ValueError, match="is its adjoint"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear.proximal(operator, normal(1, 3, *SHAPE), normal(2, 3, *SHAPE), 1.0, iterations=50)


class Counting(Operator):
    """Counts the applications of an operator without an SVD."""

    def __init__(self, inner: Operator) -> None:
        self.inner, self.calls = inner, 0
        self.input_shape, self.output_shape = inner.input_shape, inner.output_shape

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)


def test_few_iterations_where_the_singular_values_are_few():
    """A mask has two: conjugate gradients end after two steps, and look once in eight."""
    operator = Counting(bound("random"))
    linear.proximal(operator, normal(1, 3, *SHAPE), normal(2, 3, *SHAPE), 0.1)
    assert operator.calls <= 10


def test_an_svd_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    def never(*_: object, **__: object) -> Tensor:
        raise AssertionError("conjugate gradients")

    monkeypatch.setattr(linear, "damped_least_squares", never)
    for name in OPERATORS:
        operator = bound(name)
        assert isinstance(operator.svd, SVD) or isinstance(operator, ComposedOperator)
        if operator.svd is not None:
            y = normal(2, 3, *operator.output_shape)
            linear.proximal(operator, normal(1, 3, *SHAPE), y, 0.1)
            torch.testing.assert_close(linear.pseudo_inverse(operator, y), operator.pseudo_inverse(y))


def test_autocast_does_not_reach_the_solver():
    operator = bound("blur_mask")
    x, y = normal(1, 3, *SHAPE).float(), normal(2, 3, *operator.output_shape).float()
    plain = linear.proximal(operator, x, y, 0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = linear.proximal(operator, x, y, 0.01)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=1e-5)


SOLVERS: dict[str, Callable[[Operator, Tensor, Tensor], Tensor]] = {
    "proximal": lambda operator, x, y: linear.proximal(operator, x, y, 0.1),
    "pseudo_inverse": lambda operator, x, y: linear.pseudo_inverse(operator, y),
    "ridge": lambda operator, x, y: linear.ridge(operator, y, 0.1),
    "as_matrix": lambda operator, x, y: linear.as_matrix(operator),
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_not_linear_is_refused_in_words(solver: str):
    shape = (3, 16, 16)
    operator = AtSeverity(family=Snow(), severity=50).operator_for(shape, [0], RandomStreams(0))
    with pytest.raises(UserError, match=r"needs a linear operator, and snow of level 3.* is not"):
        SOLVERS[solver](operator, torch.zeros(1, *shape), torch.zeros(1, *shape))


@pytest.mark.parametrize(
    ("x", "y", "weight", "match"),
    [
        ((3, 3, 8, 9), (3, 3, 8, 8), 0.1, "needs x"),
        ((3, 3, 8, 8), (3, 3, 8, 9), 0.1, "needs x"),
        ((2, 3, 8, 8), (3, 3, 8, 8), 0.1, "as many images"),
        ((3, 3, 8, 8), (3, 3, 8, 8), -0.1, "at least 0"),
        ((3, 3, 8, 8), (3, 3, 8, 8), float("nan"), "finite"),
        ((3, 3, 8, 8), (3, 3, 8, 8), torch.ones(2), r"\[3\], one for each"),
        ((3, 3, 8, 8), (3, 3, 8, 8), torch.ones(3, 1), r"\[3\], one for each"),
    ],
)
def test_mistakes(x: tuple[int, ...], y: tuple[int, ...], weight: float | Tensor, match: str):
    with pytest.raises(ValueError, match=match):
        linear.proximal(bound("random"), torch.zeros(x), torch.zeros(y), weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_gpu_agrees(name: str):
    operator, x = bound(name), normal(1, 3, *SHAPE)
    y = normal(2, 3, *operator.output_shape)
    expected = linear.proximal(operator, x, y, 0.01)
    found = linear.proximal(operator.to("cuda"), x.cuda(), y.cuda(), torch.full((3,), 0.01, device="cuda"))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-7, atol=1e-7)
