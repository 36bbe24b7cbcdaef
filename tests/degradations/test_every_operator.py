"""What every operator promises; a new file in degradations/ or degradations/severity/ is tested without being named
here. All shapes for shape, adjoint and SVD, two for the rest; float64, several images in a batch.
"""

import inspect
from collections.abc import Callable

import jsonargparse
import pytest
import torch
from operator_examples import DEGRADATIONS, EXAMPLES, FAMILIES, FAMILY_EXAMPLES, INDEX, Case, cases, missing
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Shape
from inference.catalogue import catalogue

CASES = cases()


def _params(chosen: list[Case], shapes: Callable[[Case], list[Shape]]) -> pytest.MarkDecorator:
    found = [
        pytest.param(case, shape, id=f"{case.name}-{'x'.join(map(str, shape))}")
        for case in chosen
        for shape in shapes(case)
    ]
    return pytest.mark.parametrize(("case", "shape"), found)


def _two(case: Case) -> list[Shape]:
    """The first and the last: a square and, where there is one, another."""
    return case.shapes if len(case.shapes) < 2 else [case.shapes[0], case.shapes[-1]]


def _small(case: Case) -> list[Shape]:
    return [shape for shape in case.shapes if shape[0] * shape[1] * shape[2] <= 192]


DRAWING = ["box_mask 0", "random_mask 0", "composition 0", "gaussian_mask.GaussianMask 0 at 25", "snow 0 at 15"]
LINEAR = [case for case in CASES if case.linear]
WITH_SVD = [case for case in LINEAR if case.make(case.shapes[0], INDEX).svd is not None]
OTHERS = [case for case in CASES if not case.linear]
each, each_linear, each_svd = (_params(chosen, lambda c: c.shapes) for chosen in (CASES, LINEAR, WITH_SVD))
two, two_linear, two_svd, two_others = (_params(chosen, _two) for chosen in (CASES, LINEAR, WITH_SVD, OTHERS))
small_linear, small_svd = (_params(chosen, _small) for chosen in (LINEAR, WITH_SVD))


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _image(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 1.8 - 0.9


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


# That there is nothing that is not tested.


@pytest.mark.parametrize(
    ("kind", "found", "examples"),
    [("EXAMPLES", DEGRADATIONS, EXAMPLES), ("FAMILY_EXAMPLES", FAMILIES, FAMILY_EXAMPLES)],
)
def test_every_class_has_an_example(kind, found, examples):
    told = missing(kind, found, examples)
    assert not told, f"add {'; '.join(told)} in tests/operator_examples.py"
    assert not set(examples) - set(found), f"{kind} names what is not there: {sorted(set(examples) - set(found))}"


def test_every_operator_class_is_among_them():
    """A new operator needs a degradation that binds it, or a line in tests/operator_examples.py."""
    made: set[type] = set()
    for case in CASES:
        held = [case.make(shape, INDEX) for shape in case.shapes[:1]]
        while held:
            operator = held.pop()
            made.add(type(operator))
            held += [v for v in vars(operator).values() if isinstance(v, Operator)]
            held += [o for o in vars(operator).get("operators", ()) if isinstance(o, Operator)]
    known = {**catalogue("degradations", Operator), **catalogue("degradations/severity", Operator)}
    assert set(known.values()) <= made, sorted(c.__name__ for c in set(known.values()) - made)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_config_names_it_and_a_wrong_option_is_refused(name: str):
    cls = DEGRADATIONS[name]
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--task", type=Degradation)
    for example in EXAMPLES.get(name, []):
        options = example.options if isinstance(example.options, dict) else example.options(example.shapes[0])
        spec = {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": options}
        built = parser.instantiate(parser.parse_object({"task": spec})).task
        assert type(built) is cls
        with pytest.raises(jsonargparse.ArgumentError):
            parser.parse_object({"task": {**spec, "init_args": {**options, "strenght": 1}}})
        if inspect.signature(cls).parameters:
            first = next(iter(inspect.signature(cls).parameters))
            with pytest.raises(jsonargparse.ArgumentError):
                parser.parse_object({"task": {**spec, "init_args": {**options, first: {"no": "such"}}}})


# All shapes: shapes, adjoint, singular value decomposition.


@each
def test_shapes_dtype_and_description(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    assert operator.input_shape == shape and operator.description
    for dtype in (torch.float32, torch.float64):
        x = _image(0, 3, *shape, dtype=dtype)
        y = operator(x)
        assert y.shape == (3, *operator.output_shape) and y.dtype == dtype
        if operator.linear:
            back, inverse = operator.adjoint(y), operator.pseudo_inverse(y)
            assert back.shape == inverse.shape == x.shape and back.dtype == inverse.dtype == dtype
        svd = operator.svd
        if svd is not None:
            assert svd.vt(x).shape == svd.ut(y).shape == (3, x[0].numel())
            assert svd.v(svd.vt(x)).shape == x.shape and svd.u(svd.ut(y)).shape == y.shape
            assert svd.v(svd.vt(x)).dtype == svd.u(svd.ut(y)).dtype == dtype
            sizes = [(x[0].numel(),), (3, x[0].numel())]
            assert svd.singular_values.dtype == torch.float64 and svd.singular_values.shape in sizes


@each_linear
def test_adjoint(case: Case, shape: Shape):
    """<A x, y> = <x, A^T y> for 12 pairs, relative to |A x| |y|; and A^T y is the gradient of <A x, y>."""
    operator = case.make(shape, INDEX)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        for seed in range(4):
            x = _normal(seed, 3, *shape, dtype=dtype)
            y = _normal(100 + seed, 3, *operator.output_shape, dtype=dtype)
            forward, backward = operator(x), operator.adjoint(y)
            scale = forward.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
            assert ((_inner(forward, y) - _inner(x, backward)).abs() <= tolerance * scale + 1e-30).all()
    x = _normal(1, 3, *shape).requires_grad_()
    y = _normal(2, 3, *operator.output_shape)
    (gradient,) = torch.autograd.grad(_inner(operator(x), y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=0, atol=1e-12)


@each_svd
def test_svd(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
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


# Two shapes: the rest.


@two
def test_it_is_a_function_of_seed_and_index(case: Case, shape: Shape):
    """Two calls are equal, a batch is its images one by one, in any order; nothing draws from the global generator."""
    state = torch.get_rng_state()
    together = case.make(shape, INDEX)
    x = _image(1, 3, *shape)
    before, y = x.clone(), together(x)
    assert torch.equal(together(x), y) and torch.equal(y, case.make(shape, INDEX)(x)) and torch.equal(x, before)
    for row, index in enumerate(INDEX):
        alone = case.make(shape, [index])
        torch.testing.assert_close(alone(x[row : row + 1])[0], y[row], rtol=0, atol=1e-13)
        if together.linear:
            inverse, single = together.pseudo_inverse(y), alone.pseudo_inverse(y[row : row + 1])
            torch.testing.assert_close(single[0], inverse[row], rtol=1e-7, atol=1e-7 if together.svd is None else 1e-12)
    turned = case.make(shape, INDEX[::-1])(x.flip(0))
    torch.testing.assert_close(turned.flip(0), y, rtol=0, atol=1e-13)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("case", [c for c in CASES if c.degradation is not None], ids=lambda c: c.name)
def test_what_depends_on_the_seed_says_that_it_draws(case: Case):
    """Otherwise it is offered for a picture that was degraded elsewhere, whose parameters nobody knows."""
    shape = case.shapes[-1]
    degradation, x = case.degradation(shape), _image(1, 3, *shape)
    found = [degradation.operator_for(shape, INDEX, RandomStreams(seed))(x) for seed in (0, 1, 2)]
    if not degradation.draws:
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
        assert torch.equal(degradation.bind({}, shape)(x), found[0])
    if case.name in DRAWING:
        assert not torch.equal(found[0], found[1])
        one_picture = case.make(shape, INDEX)(x[:1].expand_as(x))
        assert not torch.equal(one_picture[0], one_picture[1]), "every image has its own parameters"


@two
def test_extreme_images_are_finite_and_within_the_range(case: Case, shape: Shape):
    """White, black, one pixel, a checkerboard, noise and signs: within output_range, and no longer than norm() says."""
    operator = case.make(shape, INDEX)
    low, high = operator.output_range
    assert low < high
    ones = torch.ones(3, *shape).double()
    pixel = torch.zeros(3, *shape).double()
    pixel[:, :, 0, -1] = 1
    grid = torch.arange(shape[1])[:, None] + torch.arange(shape[2])
    checkerboard = (1.0 - 2.0 * (grid % 2)).double().expand(3, *shape)
    for x in (_normal(1, 3, *shape).clamp(-1, 1), _normal(2, 3, *shape).sign(), ones, -ones, pixel, checkerboard):
        y = operator(x)
        assert torch.isfinite(y).all()
        assert low - 1e-12 <= float(y.min()) and float(y.max()) <= high + 1e-12
        if operator.linear:
            assert torch.isfinite(operator.pseudo_inverse(y)).all()
            assert y.norm() <= operator.norm() * x.norm() * (1 + 1e-12)


@two_others
def test_what_is_not_linear_has_a_gradient_and_no_adjoint(case: Case, shape: Shape):
    """The gradient is that of finite differences; of a function with steps (8 bits) between them."""
    operator = case.make(shape, INDEX)
    x, weights = _image(1, 3, *shape).requires_grad_(), _normal(2, 3, *operator.output_shape)
    direction = _normal(3, 3, *shape)
    (gradient,) = torch.autograd.grad((operator(x) * weights).sum(), x)
    step = 1e-8
    moved = [operator(x.detach() + sign * step * direction) for sign in (1, -1)]
    expected = ((moved[0] - moved[1]) * weights).sum() / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-4)
    y = operator(x.detach())
    assert operator.svd is None
    for direction in (operator.adjoint, operator.pseudo_inverse):
        with pytest.raises(TypeError, match="has no"):
            direction(y)
    x = _image(2, 3, *shape)
    assert not torch.allclose(operator(0.5 * x), 0.5 * operator(x)), "it is linear, and says that it is not"


@two_svd
def test_moore_penrose_and_null_space(case: Case, shape: Shape):
    """The four identities on the truncated operator where small singular values are taken for zero; A (P z) = 0 with
    P = I - A^+ A; |A - truncated A| <= threshold, and A^+ amplifies by at most 1 / threshold.
    """
    operator = case.make(shape, INDEX)
    truncated, inverse = _truncated(operator), operator.pseudo_inverse
    x, y = _normal(1, 3, *shape), _normal(2, 3, *operator.output_shape)
    x2, y2 = _normal(3, 3, *shape), _normal(4, 3, *operator.output_shape)
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


@small_linear
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


@two
def test_repeat_is_image_major_and_pick_takes_rows(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    x, rows = _image(1, 3, *shape), [2, 0]
    y, chains = operator(x), x.repeat_interleave(2, 0)
    torch.testing.assert_close(operator.repeat(2)(chains), y.repeat_interleave(2, 0), rtol=0, atol=1e-13)
    torch.testing.assert_close(operator.pick(rows)(x[rows]), y[rows], rtol=0, atol=1e-13)
    again, mask = operator.repeat(2), operator.mask
    assert not (operator.keeps_pixels and mask is None)
    assert again.output_range == operator.output_range and again.description == operator.description
    assert again.linear == operator.linear and again.keeps_pixels == operator.keeps_pixels
    if operator.linear:
        inverse, tolerance = operator.pseudo_inverse(y), 1e-7 if operator.svd is None else 1e-12
        twice = again.pseudo_inverse(y.repeat_interleave(2, 0))
        torch.testing.assert_close(twice, inverse.repeat_interleave(2, 0), rtol=1e-7, atol=tolerance)
    if mask is not None and len(mask) > 1:
        assert torch.equal(again.mask, mask.repeat_interleave(2, 0)) and torch.equal(
            operator.pick(rows).mask, mask[rows]
        )


@_params([case for case in CASES if case.make(case.shapes[0], INDEX).mask is not None], _two)
def test_a_mask_says_what_was_measured(case: Case, shape: Shape):
    """Missing values of y are 0 whatever x is, the others are not; where only pixels are kept, A = diag(mask)."""
    operator = case.make(shape, INDEX)
    mask, x = operator.mask, _image(1, 3, *shape) + 2
    assert mask.shape in [(n, 1, *operator.output_shape[1:]) for n in (1, 3)] and bool(
        ((mask == 0) | (mask == 1)).all()
    )
    y = operator(x)
    assert torch.equal(y != 0, (mask == 1).expand_as(y))
    if operator.keeps_pixels:
        assert torch.equal(y, x * mask)


@pytest.mark.parametrize("name", [*DRAWING, "circular kernels"])
def test_refuses_another_number_of_images(name: str):
    """A single image would silently become three."""
    (case,) = [c for c in CASES if c.name == name]
    operator = case.make((1, 8, 8), INDEX)
    for count in (1, 2, 6):
        with pytest.raises(ValueError, match="use repeat"):
            operator(torch.zeros(count, 1, 8, 8))


@two_linear
def test_linear_with_the_norm_that_it_says(case: Case, shape: Shape):
    """By power iteration: an upper bound; the norm itself where there is an SVD."""
    operator = case.make(shape, INDEX)
    x, z = _normal(1, 3, *shape), _normal(2, 3, *shape)
    torch.testing.assert_close(operator(1.5 * x - 0.3 * z), 1.5 * operator(x) - 0.3 * operator(z), rtol=0, atol=1e-12)
    assert (operator(torch.zeros_like(x)) == 0).all()
    for _ in range(60):
        x = operator.adjoint(operator(x / x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)))
    found = float(x.flatten(1).norm(dim=1).max()) ** 0.5
    assert found <= operator.norm() * (1 + 1e-9)
    if operator.svd is not None:
        assert found >= 0.97 * operator.norm() or float(operator.svd.singular_values.max()) == 0


@_params([case for case in CASES if case.constant], lambda c: c.shapes)
def test_constant_images_stay(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    for value in (-1.0, 0.25, 1.0):
        y = operator(torch.full((3, *shape), value, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, value), rtol=0, atol=1e-12)


@two
def test_autocast_does_not_reach_the_operator_and_to_keeps_it(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    x = _image(1, 3, *shape, dtype=torch.float32)
    plain = operator(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = operator(x)
        inverse = operator.pseudo_inverse(plain) if operator.linear else None
        basis = None if operator.svd is None else operator.svd.v(operator.svd.vt(x))
    torch.testing.assert_close(mixed, plain, rtol=0, atol=1e-6)
    if inverse is not None:
        torch.testing.assert_close(inverse, operator.pseudo_inverse(plain), rtol=1e-5, atol=1e-5)
    if basis is not None:
        torch.testing.assert_close(basis, x, rtol=0, atol=1e-5)
    assert operator.to("cpu") is operator and torch.equal(operator(x), plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@two
def test_gpu_agrees(case: Case, shape: Shape):
    def everything(operator: Operator, x: Tensor, y: Tensor) -> list[Tensor]:
        found = [operator(x)]
        if operator.linear:
            found += [operator.adjoint(y), operator.pseudo_inverse(y)]
        if operator.svd is not None:
            found += [operator.svd.vt(x), operator.svd.ut(y)]
        return found

    operator = case.make(shape, INDEX)
    x, y = _image(1, 3, *shape), _normal(2, 3, *operator.output_shape)
    expected = everything(operator, x, y)
    on_gpu = operator.to("cuda")
    for a, b in zip(everything(on_gpu, x.cuda(), y.cuda()), expected, strict=True):
        assert a.is_cuda
        tolerance = 1e-10 if operator.svd is not None or not operator.linear else 1e-6
        torch.testing.assert_close(a.cpu(), b, rtol=tolerance, atol=tolerance)
    if on_gpu.svd is not None:
        assert on_gpu.svd.singular_values.to(x.cuda()).device.type == "cuda"
