"""What every operator promises; a new file in degradations/ or degradations/severity/ is tested without being named
here, what is linear in test_every_linear_operator.py too. All shapes for the shape, two for the rest; float64, several
images in a batch.
"""

import inspect

import jsonargparse
import pytest
import torch
from operator_examples import (
    CASES,
    DEGRADATIONS,
    EXAMPLES,
    FAMILIES,
    FAMILY_EXAMPLES,
    INDEX,
    Case,
    each,
    image,
    missing,
    normal,
    two,
)
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Shape
from inference.catalogue import catalogue

DRAWING = [
    "box_mask 0",
    "random_mask 0",
    "composition 0",
    "stroke_mask 0",
    "compressed_sensing 0",
    "compressed_sensing 1",
    "motion_blur 1",
    "camera_shake 0",
    "gaussian_mask.GaussianMask 0 at 25",
    "snow 0 at 15",
]
every, twice = each(CASES), each(CASES, two)
twice_not_linear = each([case for case in CASES if not case.linear], two)


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


@every
def test_shapes_dtype_and_description(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    assert operator.input_shape == shape and operator.description
    for dtype in (torch.float32, torch.float64):
        x = image(0, 3, *shape, dtype=dtype)
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


@twice
def test_it_is_a_function_of_seed_and_index(case: Case, shape: Shape):
    """Two calls are equal, a batch is its images one by one, in any order; nothing draws from the global generator."""
    state = torch.get_rng_state()
    together = case.make(shape, INDEX)
    x = image(1, 3, *shape)
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
    degradation, x = case.degradation(shape), image(1, 3, *shape)
    found = [degradation.operator_for(shape, INDEX, RandomStreams(seed))(x) for seed in (0, 1, 2)]
    if not degradation.draws:
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
        assert torch.equal(degradation.bind({}, shape)(x), found[0])
    if case.name in DRAWING:
        assert not torch.equal(found[0], found[1])
        one_picture = case.make(shape, INDEX)(x[:1].expand_as(x))
        assert not torch.equal(one_picture[0], one_picture[1]), "every image has its own parameters"


@twice
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
    for x in (normal(1, 3, *shape).clamp(-1, 1), normal(2, 3, *shape).sign(), ones, -ones, pixel, checkerboard):
        y = operator(x)
        assert torch.isfinite(y).all()
        assert low - 1e-12 <= float(y.min()) and float(y.max()) <= high + 1e-12
        if operator.linear:
            assert torch.isfinite(operator.pseudo_inverse(y)).all()
            assert y.norm() <= operator.norm() * x.norm() * (1 + 1e-12)


@twice_not_linear
def test_what_is_not_linear_has_a_gradient_and_no_adjoint(case: Case, shape: Shape):
    """The gradient is that of finite differences: of A between its steps (8 bits), or of what stands for A where it is
    nothing but steps.
    """
    operator = case.make(shape, INDEX)
    x, weights = image(1, 3, *shape).requires_grad_(), normal(2, 3, *operator.output_shape)
    direction = normal(3, 3, *shape)
    (gradient,) = torch.autograd.grad((operator(x) * weights).sum(), x)
    step = 1e-8
    moved = [operator.smooth(x.detach() + sign * step * direction) for sign in (1, -1)]
    expected = ((moved[0] - moved[1]) * weights).sum() / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-4)
    y = operator(x.detach())
    assert operator.svd is None
    for direction in (operator.adjoint, operator.pseudo_inverse):
        with pytest.raises(TypeError, match="has no"):
            direction(y)
    x = image(2, 3, *shape)
    assert not torch.allclose(operator(-0.5 * x), -0.5 * operator(x)), "it is linear, and says that it is not"


@twice
def test_repeat_is_image_major_and_pick_takes_rows(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    x, rows = image(1, 3, *shape), [2, 0]
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


@each([case for case in CASES if case.make(case.shapes[0], INDEX).mask is not None], two)
def test_a_mask_says_what_was_measured(case: Case, shape: Shape):
    """Missing values of y are 0 whatever x is, the others are not; where only pixels are kept, A = diag(mask)."""
    operator = case.make(shape, INDEX)
    mask, x = operator.mask, image(1, 3, *shape) + 2
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


@each([case for case in CASES if case.constant])
def test_constant_images_stay(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    for value in (-1.0, 0.25, 1.0):
        y = operator(torch.full((3, *shape), value, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, value), rtol=0, atol=1e-12)


@twice
def test_autocast_does_not_reach_the_operator_and_to_keeps_it(case: Case, shape: Shape):
    operator = case.make(shape, INDEX)
    x = image(1, 3, *shape, dtype=torch.float32)
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
@twice
def test_gpu_agrees(case: Case, shape: Shape):
    def everything(operator: Operator, x: Tensor, y: Tensor) -> list[Tensor]:
        found = [operator(x)]
        if operator.linear:
            found += [operator.adjoint(y), operator.pseudo_inverse(y)]
        if operator.svd is not None:
            found += [operator.svd.vt(x), operator.svd.ut(y)]
        return found

    operator = case.make(shape, INDEX)
    x, y = image(1, 3, *shape), normal(2, 3, *operator.output_shape)
    expected = everything(operator, x, y)
    on_gpu = operator.to("cuda")
    for a, b in zip(everything(on_gpu, x.cuda(), y.cuda()), expected, strict=True):
        assert a.is_cuda
        tolerance = 1e-10 if operator.svd is not None or not operator.linear else 1e-6
        torch.testing.assert_close(a.cpu(), b, rtol=tolerance, atol=tolerance)
    if on_gpu.svd is not None:
        assert on_gpu.svd.singular_values.to(x.cuda()).device.type == "cuda"
