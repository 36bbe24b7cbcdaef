"""Degradations one after the other: what a composition makes of its parts; the batteries test it as any operator."""

import re

import pytest
import torch
import yaml
from helpers import tiny_denoiser

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.at_severity import AtSeverity
from degradations.average_pool import AveragePool
from degradations.base import Degradation
from degradations.bicubic import Bicubic
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.composition import ComposedOperator, Composition
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.mask import Mask
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.random_mask import RandomMask
from degradations.reflecting_blur import ReflectingGaussianBlur
from degradations.separable import Separable
from degradations.severity.snow import Snow
from restoration.consistency import check_projection, projection
from restoration.dip import DIP
from restoration.dps import DPS
from restoration.pseudo_inverse import PseudoInverse
from restoration.total_variation import TotalVariation
from restoration.warm_start import WarmStart

RANDOM, INDEX = RandomStreams(0), [3, 7]
BLUR, HOLES = ReflectingGaussianBlur(std=1.0), RandomMask(removed=0.3)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def operator(*parts: Degradation, shape=(3, 16, 16), index=INDEX):
    return Composition(parts=list(parts)).operator_for(shape, index, RANDOM)


def test_parts_are_applied_in_their_order():
    x = images(2, 3, 16, 16)
    blurred = BLUR.operator_for((3, 16, 16), INDEX, RANDOM)
    masked = HOLES.operator_for((3, 16, 16), INDEX, RANDOM)
    assert torch.equal(operator(BLUR, HOLES)(x), masked(blurred(x)))
    assert torch.equal(operator(HOLES, BLUR)(x), blurred(masked(x)))
    assert operator(Grey(), Bicubic(factor=2)).output_shape == (1, 8, 8)
    assert operator(Grey(), Bicubic(factor=2), HOLES).description == (
        "grey from colour, weights 0.3333, 0.3333, 0.3333, then bicubic downsampling x2, then random mask, 0.3 of the"
        " pixels removed"
    )


def test_a_mask_at_the_end_says_what_was_measured():
    """Where holes are blurred afterwards there are none in y; holes of both kinds are those of the last masks."""
    shape = (3, 16, 16)
    alone = HOLES.operator_for(shape, INDEX, RANDOM).mask
    assert torch.equal(operator(BLUR, HOLES).mask, alone) and not operator(BLUR, HOLES).keeps_pixels
    assert operator(HOLES, BLUR).mask is None and operator(BLUR, AveragePool(factor=2)).mask is None
    both = operator(BLUR, BoxMask(), HOLES)
    box = BoxMask().operator_for(shape, INDEX, RANDOM).mask
    later = both.mask.sum((1, 2, 3))
    assert bool((both.mask <= box).all()) and bool((later < alone.sum((1, 2, 3))).all())
    assert torch.equal(operator(BLUR, HOLES, Identity()).mask, alone)


def test_nothing_is_composed_where_nothing_needs_to_be():
    """Masks alone are a mask, with its singular value decomposition; one part, or one and the identity, is itself."""
    masks = operator(HOLES, BoxMask())
    assert isinstance(masks, Mask) and masks.svd is not None and masks.keeps_pixels
    for parts in ([BLUR], [Identity(), BLUR], [BLUR, Identity()]):
        assert isinstance(operator(*parts), Separable)
    assert operator(Identity(), Identity()).description == "identity"
    nested = operator(Composition(parts=[BLUR, HOLES]), AveragePool(factor=2))
    assert isinstance(nested, ComposedOperator) and nested.output_shape == (3, 8, 8)


def test_the_first_part_that_draws_draws_as_it_would_alone():
    """A mask is the same with and without a blur; two masks are two; a list does not depend on its batch."""
    shape = (1, 16, 16)
    alone = HOLES.operator_for(shape, INDEX, RANDOM).mask
    assert torch.equal(operator(BLUR, HOLES, shape=shape).mask, alone)
    twice = operator(HOLES, HOLES, shape=shape).mask
    known = float(twice.mean())
    assert 0.4 < known < 0.6 and bool((twice <= alone).all())  # 0.7 * 0.7
    assert torch.equal(operator(HOLES, HOLES, shape=shape, index=[7]).mask[0], twice[1])
    pooled = operator(AveragePool(factor=2), HOLES, shape=shape)
    assert pooled.mask.shape == (2, 1, 8, 8)
    inner = operator(Composition(parts=[BLUR, HOLES]), HOLES, shape=shape)
    assert torch.equal(inner.mask, twice)


def test_norm_and_range_are_bounds():
    x = images(2, 3, 16, 16, seed=1).sign().double()
    for composed in (
        operator(BLUR, HOLES),
        operator(Bicubic(factor=2), BLUR),
        operator(Grey(weights=[-1.0, 0.5, 1.0]), AveragePool(factor=2)),
    ):
        low, high = composed.output_range
        y = composed(x)
        assert low <= float(y.min()) and float(y.max()) <= high
        v = images(2, 3, 16, 16, seed=2).double()
        for _ in range(100):
            v = composed.adjoint(composed(v / v.norm()))
        assert float(v.norm()) ** 0.5 <= composed.norm() * (1 + 1e-9)
    snow = operator(Grey(weights=[0.1, 0.1, 0.1]), AtSeverity(family=Snow(), severity=200))
    assert snow.output_range == (-1.0, 1.0), "snow falls on a picture of little contrast, too"


def test_what_is_not_linear_says_so_and_still_has_a_gradient():
    composed = operator(BLUR, AtSeverity(family=Snow(), severity=50))
    assert not composed.linear
    x = (0.2 * images(2, 3, 16, 16) - 0.7).requires_grad_()
    (gradient,) = torch.autograd.grad(composed(x).sum(), x)
    assert bool((gradient != 0).any())
    for direction in (composed.adjoint, composed.pseudo_inverse):
        with pytest.raises(TypeError, match="ComposedOperator has no"):
            direction(composed(x))


def test_from_yaml():
    spec = yaml.safe_load(
        """
        class_path: degradations.composition.Composition
        init_args:
          parts:
            - {class_path: degradations.reflecting_blur.ReflectingGaussianBlur, init_args: {std: 1.5}}
            - class_path: degradations.composition.Composition
              init_args: {parts: [{class_path: degradations.random_mask.RandomMask, init_args: {removed: 0.3}}]}
        """
    )
    built = build(spec, Degradation, where="tasks.holes.degradation")
    assert built.draws and "Gaussian blur" in built.operator_for((1, 16, 16), [0], RANDOM).description
    spec["init_args"]["parts"][0]["init_args"] = {"sdt": 1.5}
    with pytest.raises(UserError, match=r"tasks\.holes\.degradation"):
        build(spec, Degradation, where="tasks.holes.degradation")


@pytest.mark.parametrize(
    ("parts", "shape", "message"),
    [
        ([], (3, 16, 16), "parts must name at least one"),
        ([Grey(), Grey()], (3, 16, 16), "needs colour images"),
        ([AveragePool(factor=2), AveragePool(factor=16)], (3, 16, 16), "does not divide the image of 8x8"),
    ],
)
def test_parts_that_do_not_fit(parts, shape, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Composition(parts=parts).operator_for(shape, INDEX, RANDOM)


def test_operators_that_do_not_fit():
    pool = AveragePool(factor=2).operator_for((3, 16, 16), INDEX, RANDOM)
    with pytest.raises(ValueError, match=r"takes images of \[3, 16, 16\], and average pooling x2 gives \[3, 8, 8\]"):
        ComposedOperator([pool, pool])
    with pytest.raises(ValueError, match="at least one operator"):
        ComposedOperator([])


def test_the_clean_shape_goes_through_all_parts():
    assert Composition(parts=[Grey(), AveragePool(factor=2), HOLES]).clean_shape((1, 8, 9)) == (3, 16, 18)


def bars(count: int) -> torch.Tensor:
    x = torch.full((count, 1, 16, 16), -1.0)
    x[:, :, 3:13, 5:11] = 0.8
    return x


@pytest.mark.parametrize("noise", [GaussianNoise(sigma_255=4), PoissonNoise(scale=2000)], ids=["gaussian", "poisson"])
@pytest.mark.parametrize(
    "method",
    [
        PseudoInverse(),
        TotalVariation(iterations=40),
        DIP(iterations=20),
        DPS(prior=tiny_denoiser((1, 16, 16)), steps=4),
        WarmStart(prior=tiny_denoiser((1, 16, 16)), first=PseudoInverse(), start_255=40, steps=3),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_restore_a_blurred_picture_with_holes(method, noise):
    degradation = Composition(parts=[CircularGaussianBlur(std=0.8), HOLES])
    m = measure(bars(2), degradation=degradation, noise=noise, index=INDEX, random=RANDOM)
    assert bool((m.y[m.operator.mask == 0] == 0).all())
    found = method.restore(m, random=RANDOM).samples[:, 0]
    assert found.shape == (2, 1, 16, 16) and bool(torch.isfinite(found).all())
    if not isinstance(method, (DIP, DPS, WarmStart)):  # twenty iterations are a start, and those priors know nothing
        assert float((found - m.truth).square().mean()) < 0.8 * float((m.y - m.truth).square().mean())


def test_a_projection_is_solved_where_there_is_no_svd():
    """The surer the prior is of its estimate, the less it moves towards y."""
    m = measure(
        bars(2),
        degradation=Composition(parts=[CircularGaussianBlur(std=0.8), HOLES]),
        noise=GaussianNoise(sigma_255=4),
        index=INDEX,
        random=RANDOM,
    )
    agree = projection(m.operator, m.y, m.sigma)
    x0 = torch.zeros_like(m.truth)
    near, far = (agree(x0, sigma) for sigma in (0.02, 2.0))

    def residual(x: torch.Tensor) -> float:
        return float((m.operator(x) - m.y).square().mean())

    assert residual(far) < 0.1 * residual(near) < residual(x0)
    check_projection(m.operator, m.noise)
    with pytest.raises(UserError, match="PoissonNoise"):
        check_projection(m.operator, PoissonNoise(scale=2000))
    snow = operator(BLUR, AtSeverity(family=Snow(), severity=50))
    with pytest.raises(UserError, match="needs a linear operator"):
        check_projection(snow, m.noise)
