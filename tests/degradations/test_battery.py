"""The battery of reference 1.7: what every linear operator satisfies, in float64, at several shapes, with several
images in a batch.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.at_severity import AtSeverity
from degradations.average_pool import AveragePool
from degradations.base import Operator, Shape
from degradations.bicubic import Bicubic
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularBlur, CircularGaussianBlur
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.lanczos import Lanczos
from degradations.random_mask import RandomMask
from degradations.reflecting_blur import ReflectingGaussianBlur
from degradations.separable import Separable
from degradations.severity.desaturation import Desaturation
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation

INDEX = [3, 7, 11]
Make = Callable[[Shape, list[int]], Operator]


def _from(degradation) -> Make:
    return lambda shape, index: degradation.operator_for(shape, index, RandomStreams(0))


def _kernels(shape: Shape, index: list[int]) -> Operator:
    """One kernel per image, not symmetric, with negative weights and an even side: what the circular operator must
    bear.
    """
    kernels = torch.randn(len(index), 4, 3, generator=_generator(1), dtype=torch.float64)
    return CircularBlur(kernels, shape, threshold=0.5)


def _rectangular(shape: Shape, index: list[int]) -> Operator:
    """One matrix makes the axis longer, the other one is shorter and has a rank below its size."""
    channels, height, width = shape
    rows = torch.randn(height + 2, height, generator=_generator(2), dtype=torch.float64) / height**0.5
    columns = torch.randn(width - 2, 2, generator=_generator(3), dtype=torch.float64) @ torch.randn(
        2, width, generator=_generator(4), dtype=torch.float64
    )
    return Separable(rows, columns, channels=channels, threshold=1e-9)


ANY = [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 12, 20), (1, 9, 15)]
OPERATORS: dict[str, tuple[Make, list[Shape]]] = {
    "identity": (_from(Identity()), ANY),
    "box": (_from(BoxMask()), [*ANY, (3, 7, 5)]),
    "box_rectangle": (_from(BoxMask(height=2, width=5, margin=1)), ANY),
    "box_center": (_from(BoxMask(place="center")), ANY),
    "random": (_from(RandomMask(removed=0.7)), [*ANY, (3, 7, 5)]),
    "random_all": (_from(RandomMask(removed=1.0)), [(1, 8, 8)]),
    "random_none": (_from(RandomMask(removed=0.0)), [(1, 8, 8)]),
    "circular_0.75": (_from(CircularGaussianBlur(std=0.75)), ANY),
    "circular_1": (_from(CircularGaussianBlur(std=1.0)), [(1, 28, 28), (3, 12, 20), (1, 9, 15)]),
    "circular_3": (_from(CircularGaussianBlur(std=3.0)), [(1, 28, 28), (1, 25, 31)]),
    "circular_kernels": (_kernels, [*ANY, (3, 7, 5)]),
    "reflecting_0.5": (_from(ReflectingGaussianBlur(std=0.5)), ANY),
    "reflecting_1": (_from(ReflectingGaussianBlur(std=1.0)), [*ANY, (3, 7, 5)]),
    "reflecting_3": (_from(ReflectingGaussianBlur(std=3.0)), ANY),
    "separable": (_rectangular, ANY),
    "pool_1": (_from(AveragePool(factor=1)), [(1, 9, 15)]),
    "pool_2": (_from(AveragePool(factor=2)), [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "pool_3": (_from(AveragePool(factor=3)), [(1, 9, 15), (3, 3, 6)]),
    "pool_4": (_from(AveragePool(factor=4)), [(3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "bicubic_1": (_from(Bicubic(factor=1)), [(1, 9, 15)]),
    "bicubic_2": (_from(Bicubic(factor=2)), [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "bicubic_3": (_from(Bicubic(factor=3)), [(1, 9, 15), (3, 3, 6)]),
    "bicubic_4": (_from(Bicubic(factor=4)), [(3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "lanczos_1": (_from(Lanczos(factor=1)), [(1, 9, 15)]),
    "lanczos_2": (_from(Lanczos(factor=2)), [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "lanczos_3": (_from(Lanczos(factor=3, lobes=3)), [(1, 9, 15), (3, 3, 6)]),
    "lanczos_4": (_from(Lanczos(factor=4)), [(3, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "lanczos_4_pixel": (_from(Lanczos(factor=4, lobes=3, phase=0)), [(1, 8, 8), (1, 28, 28), (3, 12, 20)]),
    "severity_blur": (_from(AtSeverity(family=GaussianBlur(taps=5), severity=2)), [(1, 8, 8), (3, 12, 20), (3, 7, 5)]),
    "severity_blur_reflect": (
        _from(AtSeverity(family=GaussianBlur(data="cifar10", taps=7), severity=9)),
        [(1, 8, 8), (1, 9, 15)],
    ),
    "severity_blur_all": (_from(AtSeverity(family=GaussianBlur(taps=7))), [(1, 8, 8)]),
    "severity_mask": (_from(AtSeverity(family=GaussianMask(), severity=30)), [(1, 8, 8), (3, 7, 5)]),
    "severity_mask_centre": (_from(AtSeverity(family=GaussianMask(data="celeba_64"), severity=5)), [(3, 12, 20)]),
    "severity_pixelation": (_from(AtSeverity(family=Pixelation(steps=2))), [(1, 8, 8), (3, 12, 20), (1, 9, 15)]),
    "severity_desaturation": (_from(AtSeverity(family=Desaturation(), severity=8)), [(3, 8, 8), (3, 7, 5)]),
    "severity_grey": (_from(AtSeverity(family=Desaturation())), [(3, 8, 8)]),
    "severity_noise": (_from(AtSeverity(family=GaussianNoiseFamily(), severity=150)), [(1, 8, 8), (3, 7, 5)]),
    "grey_mean": (_from(Grey()), [(3, 8, 8), (3, 12, 20), (3, 7, 5)]),
    "grey_luma": (_from(Grey(weights=[0.299, 0.587, 0.114])), [(3, 8, 8), (3, 9, 15)]),
    "grey_signed": (_from(Grey(weights=[-1.0, 0.5, 0.0])), [(3, 8, 8)]),
}
CASES = [
    pytest.param(make, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name, (make, shapes) in OPERATORS.items()
    for shape in shapes
]
SMALL = [
    pytest.param(make, shape, id=f"{name}-{shape[0]}")
    for name, (make, shapes) in OPERATORS.items()
    for shape in shapes
    if shape[1:] == (8, 8)
]
#: Those that keep a constant image: no negative gain, weights that sum to 1.
DC = [
    case
    for case in CASES
    if case.id.startswith(
        ("circular_0", "circular_1", "circular_3", "reflecting", "pool", "bicubic", "lanczos", "grey_mean", "grey_luma")
    )
]
each = pytest.mark.parametrize(("make", "shape"), CASES)
small = pytest.mark.parametrize(("make", "shape"), SMALL)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=_generator(seed), dtype=dtype)


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


@each
def test_shapes_dtype_and_description(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    assert operator.input_shape == shape
    for dtype in (torch.float32, torch.float64):
        x = _normal(0, 3, *shape, dtype=dtype)
        y = operator(x)
        assert y.shape == (3, *operator.output_shape)
        back, inverse = operator.adjoint(y), operator.pseudo_inverse(y)
        assert back.shape == inverse.shape == x.shape
        assert y.dtype == back.dtype == inverse.dtype == dtype
        svd = operator.svd
        assert svd.vt(x).shape == svd.ut(y).shape == (3, x[0].numel())
        assert svd.v(svd.vt(x)).shape == x.shape and svd.u(svd.ut(y)).shape == y.shape
        assert svd.v(svd.vt(x)).dtype == svd.u(svd.ut(y)).dtype == dtype
        assert svd.singular_values.dtype == torch.float64 and svd.singular_values.shape in [
            (x[0].numel(),),
            (3, x[0].numel()),
        ]
    assert operator.linear and operator.description


@each
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_adjoint(make: Make, shape: Shape, dtype: torch.dtype, tolerance: float):
    """<A x, y> = <x, A^T y> for 12 pairs, relative to ||A|| ||x|| ||y|| where A x is nearly orthogonal to
    everything.
    """
    operator = make(shape, INDEX)
    for seed in range(4):
        x = _normal(seed, 3, *shape, dtype=dtype)
        y = _normal(100 + seed, 3, *operator.output_shape, dtype=dtype)
        forward, backward = operator(x), operator.adjoint(y)
        scale = forward.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
        assert ((_inner(forward, y) - _inner(x, backward)).abs() <= tolerance * scale + 1e-30).all()


@each
def test_adjoint_is_the_gradient(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x = _normal(1, 3, *shape).requires_grad_()
    y = _normal(2, 3, *operator.output_shape)
    (gradient,) = torch.autograd.grad(_inner(operator(x), y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=0, atol=1e-12)


@each
def test_moore_penrose(make: Make, shape: Shape):
    """The four identities, on the truncated operator where small singular values are taken for zero."""
    operator = make(shape, INDEX)
    truncated, inverse = _truncated(operator), operator.pseudo_inverse
    x, y = _normal(1, 3, *shape), _normal(2, 3, *operator.output_shape)
    x2, y2 = _normal(3, 3, *shape), _normal(4, 3, *operator.output_shape)
    assert _relative(truncated(inverse(truncated(x))), truncated(x)) < 1e-8
    assert _relative(inverse(truncated(inverse(y))), inverse(y)) < 1e-8
    scale = y.norm() * y2.norm()
    assert (_inner(truncated(inverse(y)), y2) - _inner(y, truncated(inverse(y2)))).abs().max() < 1e-8 * scale
    assert (
        _inner(inverse(truncated(x)), x2) - _inner(x, inverse(truncated(x2)))
    ).abs().max() < 1e-8 * x.norm() * x2.norm()


@each
def test_truncation_is_below_the_threshold(make: Make, shape: Shape):
    """||A - truncated A|| <= threshold, and A^+ amplifies by at most 1 / threshold."""
    operator = make(shape, INDEX)
    x, y = _normal(1, 3, *shape), _normal(2, 3, *operator.output_shape)
    assert (operator(x) - _truncated(operator)(x)).norm() <= operator.threshold * x.norm() + 1e-10
    assert operator.threshold * operator.pseudo_inverse(y).norm() <= y.norm() * (1 + 1e-10)


@each
def test_svd(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    svd = operator.svd
    x, y, c = (
        _normal(1, 3, *shape),
        _normal(2, 3, *operator.output_shape),
        _normal(3, 3, x_size := shape[0] * shape[1] * shape[2]),
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


@small
def test_dense(make: Make, shape: Shape):
    """Everything against numerical linear algebra on the matrix of one image."""
    operator = make(shape, INDEX[:1])
    matrix = _dense(operator, shape)
    torch.testing.assert_close(_dense(operator.adjoint, operator.output_shape), matrix.mT, rtol=0, atol=1e-12)
    pinv = torch.linalg.pinv(matrix, atol=max(operator.threshold, 1e-12), rtol=0.0)
    torch.testing.assert_close(_dense(operator.pseudo_inverse, operator.output_shape), pinv, rtol=0, atol=1e-9)
    expected = torch.linalg.svdvals(matrix)
    found = operator.svd.singular_values.flatten().sort(descending=True).values
    torch.testing.assert_close(found[: len(expected)], expected, rtol=0, atol=1e-12)
    assert (found[len(expected) :] < 1e-12).all()
    assert operator.norm() == pytest.approx(float(expected[0]), abs=1e-12) or float(expected[0]) == 0


@small
def test_output_range_is_reached(make: Make, shape: Shape):
    """max |A x| over images in [-1, 1] is the largest row sum of |A|, reached by the signs of that row."""
    operator = make(shape, INDEX)
    single = make(shape, INDEX[:1])
    low, high = single.output_range
    rows = _dense(single, shape)
    best = rows.abs().sum(1).argmax()
    worst_image = torch.where(rows[best] < 0, -1.0, 1.0).double().view(1, *shape)
    if rows.abs().sum() > 0:
        assert float(single(worst_image).max()) == pytest.approx(high, abs=1e-12)
        assert float(single(-worst_image).min()) == pytest.approx(low, abs=1e-12)
    assert operator.output_range[1] >= high


@each
def test_output_range_holds(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    low, high = operator.output_range
    assert low < high
    for image in (
        _normal(1, 3, *shape).clamp(-1, 1),
        _normal(2, 3, *shape).sign(),
        torch.ones(3, *shape).double(),
        -torch.ones(3, *shape).double(),
    ):
        y = operator(image)
        assert low - 1e-12 <= float(y.min()) and float(y.max()) <= high + 1e-12


@each
def test_linear(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x, z = _normal(1, 3, *shape), _normal(2, 3, *shape)
    torch.testing.assert_close(operator(1.5 * x - 0.3 * z), 1.5 * operator(x) - 0.3 * operator(z), rtol=0, atol=1e-12)
    assert (operator(torch.zeros_like(x)) == 0).all()


@each
def test_images_are_independent_and_calls_are_equal(make: Make, shape: Shape):
    together = make(shape, INDEX)
    x, y = _normal(1, 3, *shape), _normal(2, 3, *together.output_shape)
    before = x.clone()
    assert torch.equal(together(x), together(x)) and torch.equal(together(x), make(shape, INDEX)(x))
    assert torch.equal(x, before)
    # those kernels are drawn by the test for the whole batch
    for row, index in enumerate(INDEX if make is not _kernels else []):
        alone = make(shape, [index])
        torch.testing.assert_close(alone(x[row : row + 1])[0], together(x)[row], rtol=0, atol=1e-13)
        torch.testing.assert_close(
            alone.pseudo_inverse(y[row : row + 1])[0], together.pseudo_inverse(y)[row], rtol=1e-10, atol=1e-12
        )


@each
def test_repeat_is_image_major(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x = _normal(1, 3, *shape)
    chains = x.repeat_interleave(2, 0)
    torch.testing.assert_close(operator.repeat(2)(chains), operator(x).repeat_interleave(2, 0), rtol=0, atol=1e-13)
    y = operator(x)
    again = operator.repeat(2).pseudo_inverse(y.repeat_interleave(2, 0))
    torch.testing.assert_close(again, operator.pseudo_inverse(y).repeat_interleave(2, 0), rtol=1e-10, atol=1e-12)


@each
def test_pick_takes_images_of_the_batch(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x, rows = _normal(1, 3, *shape), [2, 0]
    torch.testing.assert_close(operator.pick(rows)(x[rows]), operator(x)[rows], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["random", "box", "circular_kernels"])
def test_refuses_another_number_of_images(name: str):
    """A single image would silently become three."""
    operator = OPERATORS[name][0]((1, 8, 8), INDEX)
    for count in (1, 2, 6):
        with pytest.raises(ValueError, match="use repeat"):
            operator(torch.zeros(count, 1, 8, 8))


@each
def test_norm_by_power_iteration(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x = _normal(1, 3, *shape)
    for _ in range(60):
        x = operator.adjoint(operator(x / x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)))
    found = float(x.flatten(1).norm(dim=1).max()) ** 0.5
    assert found <= operator.norm() * (1 + 1e-9)
    assert found >= 0.97 * operator.norm() or float(operator.svd.singular_values.max()) == 0


@each
def test_null_space(make: Make, shape: Shape):
    """A (P z) = 0 with P = I - A^+ A, and A (A^+ y + P z) = A A^+ y: with the truncated A exactly."""
    operator = make(shape, INDEX)
    truncated, inverse = _truncated(operator), operator.pseudo_inverse
    y, z = operator(_normal(1, 3, *shape)), _normal(2, 3, *shape)
    null = z - inverse(truncated(z))
    assert truncated(null).norm() < 1e-8 * z.norm()
    assert operator(null).norm() <= (operator.threshold + 1e-8) * z.norm()
    torch.testing.assert_close(truncated(inverse(y) + null), truncated(inverse(y)), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("make", "shape"), DC)
def test_constant_images_stay(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    for value in (-1.0, 0.25, 1.0):
        y = operator(torch.full((3, *shape), value, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, value), rtol=0, atol=1e-13)


@each
def test_constant_single_pixel_and_checkerboard_are_finite(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    constant = torch.ones(3, *shape).double()
    pixel = torch.zeros(3, *shape).double()
    pixel[:, :, 0, -1] = 1
    grid = torch.arange(shape[1])[:, None] + torch.arange(shape[2])
    checkerboard = (1.0 - 2.0 * (grid % 2)).double().expand(3, *shape)
    for x in (constant, -constant, pixel, checkerboard):
        y = operator(x)
        assert torch.isfinite(y).all() and torch.isfinite(operator.pseudo_inverse(y)).all()
        assert y.norm() <= operator.norm() * x.norm() * (1 + 1e-12)


@each
def test_autocast_does_not_reach_the_operator(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x = _normal(1, 3, *shape, dtype=torch.float32)
    plain = operator(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = operator(x)
        inverse = operator.pseudo_inverse(plain)
        basis = operator.svd.v(operator.svd.vt(x))
    torch.testing.assert_close(mixed, plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(inverse, operator.pseudo_inverse(plain), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(basis, x, rtol=0, atol=1e-5)


@each
def test_to_keeps_the_operator(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x = _normal(1, 3, *shape)
    before = operator(x)
    assert operator.to("cpu") is operator
    assert torch.equal(operator(x), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_gpu_agrees(make: Make, shape: Shape):
    operator = make(shape, INDEX)
    x, y = _normal(1, 3, *shape), _normal(2, 3, *operator.output_shape)
    expected = operator(x), operator.adjoint(y), operator.pseudo_inverse(y), operator.svd.vt(x), operator.svd.ut(y)
    on_gpu = operator.to("cuda")
    x, y = x.cuda(), y.cuda()
    found = on_gpu(x), on_gpu.adjoint(y), on_gpu.pseudo_inverse(y), on_gpu.svd.vt(x), on_gpu.svd.ut(y)
    for a, b in zip(found, expected, strict=True):
        assert a.is_cuda
        torch.testing.assert_close(a.cpu(), b, rtol=1e-10, atol=1e-10)
    assert on_gpu.svd.singular_values.to(x).device == x.device
