"""Total variation, perceptual and adversarial terms: values, gradients by finite differences in float64, independence
of the images, what is refused.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from checkpoints.feature_maps import ClassifierMaps
from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from metrics.feature_maps import FeatureMaps
from networks.untrained.skip import SkipArchitecture
from restoration.base import Unsupported
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.settings import DIPSettings
from restoration.deep_image_prior.terms.adversarial import FIELD, AdversarialTerm, Discriminator, _patches
from restoration.deep_image_prior.terms.base import Term
from restoration.deep_image_prior.terms.perceptual import PerceptualTerm
from restoration.deep_image_prior.terms.tv import TVTerm
from restoration.stopping.fixed import FixedIterations

CLASSIFIER = Path(__file__).parents[4] / "assets" / "classifier_cifar10.safetensors"
INDEX = (4, 9, 2)


class Gradients(FeatureMaps):
    """Smooth maps whose dependence on the image is known: squares of differences, and means of 2 x 2 blocks."""

    def check(self, shape):
        if shape[0] != 3:
            raise UserError(f"three channels, got {shape[0]}")

    def to(self, device):
        return self

    def of(self, images: Tensor) -> list[Tensor]:
        return [(images[..., 1:] - images[..., :-1]).square(), F.avg_pool2d(images, 2)]


def measured(
    degradation=None, channels: int = 3, size: int = 20, sigma: float = 0.1, dtype=torch.float64
) -> Measurement:
    random = RandomStreams(3)
    x = torch.stack([random.uniform("x", i, 0, (channels, size, size)) for i in INDEX]).to(dtype) * 1.6 - 0.8
    return measure(
        x, degradation=degradation or Identity(), noise=GaussianNoise(sigma=sigma), index=INDEX, random=random
    )


TERMS = {
    "tv": TVTerm(weight=1e-3),
    "tv_squared": TVTerm(weight=1e-3, beta=1.0),
    "perceptual": PerceptualTerm(features=Gradients(), weight=0.1),
    "perceptual_pseudo_inverse": PerceptualTerm(features=Gradients(), weight=0.1, compare="pseudo_inverse"),
    "adversarial": AdversarialTerm(weight=0.1, channels=4, crop=14),
    "adversarial_pseudo_inverse": AdversarialTerm(weight=0.1, channels=4, crop=16, reference="pseudo_inverse", steps=2),
}
each = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


def begun(term: Term, m: Measurement):
    return term.begin(m, random=RandomStreams(8), iterations=50)


@each
@pytest.mark.parametrize("degradation", [Identity(), BoxMask(size=6)], ids=["identity", "mask"])
def test_gradients_by_finite_differences(term: Term, degradation):
    active = begun(term, measured(degradation))
    f = (
        torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.8 - 0.9
    ).requires_grad_()
    for iteration in (1, 2, 3):  # a discriminator that has learned something
        active.after_step(f.detach(), f.detach(), iteration)
    loss = active.loss(f, 4)
    assert loss.shape == (3,) and (loss > 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), f)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        direction = torch.randn(f.shape, generator=generator, dtype=torch.float64)
        step = 1e-6 * direction
        slope = (active.loss(f.detach() + step, 4) - active.loss(f.detach() - step, 4)) / 2e-6
        torch.testing.assert_close(slope, (gradient * direction).flatten(1).sum(1), rtol=2e-5, atol=1e-9)


@each
@pytest.mark.parametrize("degradation", [Identity(), AveragePool(factor=2)], ids=["identity", "super_resolution"])
def test_images_do_not_see_their_neighbours(term: Term, degradation):
    """Alone and beside others: the losses, and what is learned in five steps."""
    m = measured(degradation, size=32)
    together = begun(term, m)
    f = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    losses = []
    for iteration in range(1, 6):
        losses.append(together.loss(f, iteration))
        together.after_step(f, f, iteration)
    for row in (2, 0):
        alone = begun(term, m.pick([row]))
        for iteration in range(1, 6):
            torch.testing.assert_close(
                alone.loss(f[row : row + 1], iteration)[0], losses[iteration - 1][row], rtol=1e-10, atol=1e-12
            )
            alone.after_step(f[row : row + 1], f[row : row + 1], iteration)
    g = f.clone().requires_grad_()
    together.loss(g, 6)[1].backward()
    assert (g.grad[[0, 2]] == 0).all() and (g.grad[1] != 0).any()


@each
def test_a_state_goes_on(term: Term):
    m = measured()
    f = torch.rand(3, 3, 20, 20, dtype=torch.float64) * 2 - 1
    one = begun(term, m)
    one.after_step(f, f, 1)
    state = one.state_dict()
    other = begun(term, m)
    other.load_state_dict(state)
    for active in (one, other):
        active.after_step(f, f, 2)
    assert torch.equal(one.loss(f, 3), other.loss(f, 3))
    third = begun(term, m)
    third.load_state_dict(state)  # the state was not changed by going on
    third.after_step(f, f, 2)
    assert torch.equal(one.loss(f, 3), third.loss(f, 3))


@each
def test_in_a_fit(term: Term):
    """20 iterations: the global random state stays, the term is used, float32 works."""
    m = measured(size=16, dtype=torch.float32)
    recipe = SkipArchitecture(preset="small", channels=[4, 6], skip=[2, 2], inputs=3)

    def fitted(terms: list[Term]) -> DIPFit:
        settings = DIPSettings(architecture=recipe, iterations=5)
        fit = DIPFit(m, settings=settings, stopping=FixedIterations(iterations=5), terms=terms, random=RandomStreams(0))
        optimizer = fit.optimizer()
        for _ in range(5):
            fit.losses().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            fit.observe()
        fit.close()
        return fit

    state = torch.get_rng_state()
    found = fitted([term])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.isfinite(found.output).all() and not torch.equal(found.output, fitted([]).output)


def test_total_variation_by_hand():
    """An edge of height 1/2 in [0, 1] units along 6 of 7 rows, in 2 channels: 12 * 0.5 for beta 1/2, 12 * 0.25 for beta
    1; squared sums elsewhere.
    """
    f = torch.zeros(1, 2, 7, 8, dtype=torch.float64)
    f[..., 4:] = 1
    m = measured()
    assert float(begun(TVTerm(weight=1.0), m).loss(f, 1)) == pytest.approx(6.0, rel=1e-4)
    assert float(begun(TVTerm(weight=0.5, beta=1.0), m).loss(f, 1)) == pytest.approx(1.5, rel=1e-6)
    assert float(begun(TVTerm(weight=1.0), m).loss(f * 0 + 0.3, 1)) == 0
    u = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    down, right = u.diff(dim=2)[..., :-1].square(), u.diff(dim=3)[..., :-1, :].square()
    expected = (down + right).sqrt().sum((1, 2, 3))
    torch.testing.assert_close(begun(TVTerm(weight=1.0), m).loss(2 * u - 1, 1), expected, rtol=1e-4, atol=0)


def test_total_variation_has_a_gradient_where_the_image_is_flat():
    f = torch.zeros(1, 1, 8, 8, requires_grad=True)
    begun(TVTerm(), measured()).loss(f, 1).sum().backward()
    assert torch.isfinite(f.grad).all()


def test_perceptual_is_a_relative_error_of_maps():
    m = measured(sigma=0.0)
    active = begun(PerceptualTerm(features=Gradients(), weight=2.0), m)
    assert float(active.loss(m.truth, 1).abs().max()) < 1e-12
    f = m.truth * 0.5
    # Squares fall to a quarter, means to a half: ((3/4)^2 + (1/2)^2) / 2 of the energy.
    torch.testing.assert_close(
        active.loss(f, 1), torch.full((3,), 2.0 * (0.5625 + 0.25) / 2, dtype=torch.float64), rtol=1e-12, atol=0
    )
    pooled = begun(PerceptualTerm(features=Gradients(), weight=1.0), measured(AveragePool(factor=2), sigma=0.0))
    assert float(pooled.loss(measured(AveragePool(factor=2), sigma=0.0).truth, 1).max()) < 1e-12


def test_perceptual_with_our_classifier():
    term = build(
        {
            "class_path": "restoration.deep_image_prior.terms.perceptual.PerceptualTerm",
            "init_args": {
                "features": {
                    "class_path": "checkpoints.feature_maps.ClassifierMaps",
                    "init_args": {"path": str(CLASSIFIER), "blocks": [0, 3]},
                }
            },
        },
        Term,
        where="terms",
    )
    for channels in (3, 1):
        m = measured(channels=channels, size=24, sigma=0.05, dtype=torch.float32)
        active = begun(term, m)
        near, far = active.loss(m.truth, 1), active.loss(-m.truth, 1)
        assert (near > 0).all() and (near < far / 4).all()
        f = m.truth.clone().requires_grad_()
        active.loss(f, 1).sum().backward()
        assert f.grad.abs().sum() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(active.loss(m.truth, 1), near)
    assert not any(p.requires_grad or p.grad is not None for p in term.features.network.parameters())


def test_classifier_maps_of_all_blocks():
    maps = ClassifierMaps(path=str(CLASSIFIER))
    found = maps.of(torch.zeros(2, 3, 32, 40))
    assert len(found) == len(maps.network.stages) and [tuple(m.shape[2:]) for m in found][::2] == [
        (32, 40),
        (16, 20),
        (8, 10),
    ]
    assert maps.spec["init_args"] == {"path": str(CLASSIFIER)}
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    h = F.silu(maps.network.last_norm(maps.of(x)[-1])).mean((2, 3))
    torch.testing.assert_close(h, maps.network.features(x))


def test_discriminator_sees_patches_of_its_field():
    """A logit moves with the 13 x 13 pixels around its own and with no other: what the check of missing pixels counts
    on.
    """
    network = Discriminator(1, 3, 1).double()
    network.reset([torch.Generator().manual_seed(0)])
    x = torch.rand(1, 1, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 0, 10, 9], x)
    seen = torch.nonzero(gradient[0, 0])
    reach = FIELD // 2
    assert seen.min(0).values.tolist() == [20 - reach, 18 - reach] and seen.max(0).values.tolist() == [
        20 + reach,
        18 + reach,
    ]
    known = torch.ones(1, 1, 40, 40)
    known[..., 20 + reach, 18] = 0
    hidden = _patches(known)
    assert (
        hidden.shape == network(x).shape
        and hidden[0, 0, 10, 9] == 0
        and hidden[0, 0, 9, 9] == 1
        and hidden[0, 0, 10, 13] == 1
    )


def test_missing_pixels_do_not_reach_the_discriminator():
    m = measured(BoxMask(size=6), size=32)
    f = torch.rand(3, 3, 32, 32, dtype=torch.float64) * 2 - 1
    changed = Measurement(
        y=m.y + 5 * (1 - m.operator.mask), operator=m.operator, noise=GaussianNoise(sigma=m.sigma + 10), index=m.index
    )
    one, other = begun(AdversarialTerm(channels=4, crop=32), m), begun(AdversarialTerm(channels=4, crop=32), changed)
    other.sigma = m.sigma
    for iteration in range(1, 4):
        one.after_step(f, f, iteration)
        other.after_step(f, f, iteration)
    assert torch.equal(one.loss(f, 4), other.loss(f, 4))


def test_a_discriminator_learns_to_tell_textures_apart():
    """Vertical stripes in y, horizontal ones in the output: after some steps the output's loss exceeds that of the
    measurement's own texture.
    """
    stripes = torch.sin(torch.arange(32) * 1.5).expand(1, 1, 32, 32).double() * 0.8
    m = measure(stripes, degradation=Identity(), noise=GaussianNoise(sigma=0.05), index=[3], random=RandomStreams(0))
    active = begun(AdversarialTerm(weight=1.0, channels=8, learning_rate=5e-3), m)
    for iteration in range(1, 40):
        active.after_step(stripes.mT, stripes.mT, iteration)
    assert float(active.loss(stripes.mT, 50)) > 2 > 0.3 > float(active.loss(stripes, 50))


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: TVTerm(weight=-1.0), ValueError, "weight"),
        (lambda: TVTerm(beta=0.0), ValueError, "beta"),
        (lambda: PerceptualTerm(features=Gradients(), weight=-1), ValueError, "weight"),
        (lambda: PerceptualTerm(features=Gradients(), compare="truth"), ValueError, "compare"),
        (lambda: AdversarialTerm(crop=8), ValueError, "crop"),
        (lambda: AdversarialTerm(learning_rate=0.0), ValueError, "learning_rate"),
        (lambda: AdversarialTerm(reference="truth"), ValueError, "reference"),
        (lambda: begun(PerceptualTerm(features=Gradients()), measured(Grey())), Unsupported, "images"),
        (lambda: begun(AdversarialTerm(), measured(Grey())), Unsupported, "images"),
        (lambda: begun(AdversarialTerm(), measured(RandomMask(removed=0.5))), Unsupported, "no patch of 13 x 13"),
        (lambda: begun(AdversarialTerm(), measured(AveragePool(factor=4))), Unsupported, "5 x 5 pixels"),
        (lambda: begun(PerceptualTerm(features=Gradients()), measured(channels=1)), UserError, "three channels"),
        (lambda: ClassifierMaps(path=str(CLASSIFIER), blocks=[7]), UserError, "blocks"),
        (lambda: ClassifierMaps(path=str(CLASSIFIER)).check((2, 32, 32)), UserError, "channel"),
        (lambda: ClassifierMaps(path=str(CLASSIFIER)).check((3, 4, 32)), UserError, "at least 8"),
    ],
)
def test_refuses(make, error: type[Exception], word: str):
    with pytest.raises(error, match=word):
        make()
