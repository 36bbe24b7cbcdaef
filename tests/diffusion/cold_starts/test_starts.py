"""x_T: its distribution in closed form, its keys, its round trip through a checkpoint, and what it refuses."""

import json
import math

import pytest
import torch
import yaml
from torch.nn import functional as F

from common.build import build
from common.errors import UserError
from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.severity.base import SeverityFamily
from degradations.severity.desaturation import Desaturation
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask, GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation
from diffusion.cold_starts.base import Start, left_at_end
from diffusion.cold_starts.coarse_pixels import CoarsePixels
from diffusion.cold_starts.constant_colour import ConstantColour
from diffusion.cold_starts.full_mask import FullMask
from diffusion.cold_starts.other_image import OtherImage
from diffusion.cold_starts.pure_noise import PureNoise

SHAPE = (3, 16, 16)
BLUR = GaussianBlur(steps=12)  # 11 taps, circular: leaves nothing of 16 pixels
COARSE = Pixelation(steps=3)


class Blend(SeverityFamily):
    """As Animorph, with made-up other images."""

    def __init__(self, *, left: float = 0.0, steps: int = 4) -> None:
        self.severities, self.left, self.description = steps, left, "a blend"

    def check(self, shape):
        pass

    def sample(self, count, shape, generator):
        return {"other": torch.rand(count, *shape, generator=generator) * 2 - 1}

    def degrade(self, x, t, params):
        kept = (1 - (1 - self.left) * t.to(x) / self.severities).view(-1, 1, 1, 1)
        return kept * x + (1 - kept.square()).sqrt() * params["other"]

    def operator(self, t, params, shape):
        raise NotImplementedError


CASES = [
    (ConstantColour(), BLUR),
    (ConstantColour(components=2, noise=0.0), BLUR),
    (CoarsePixels(), COARSE),
    (PureNoise(), GaussianNoiseFamily(steps=20)),
    (FullMask(), CoveringMask(steps=30)),
    (OtherImage(), Blend()),
]
IDS = [f"{type(start).__name__}-{i}" for i, (start, _) in enumerate(CASES)]


def _images(count=60, shape=SHAPE, seed=0):
    """8-bit images with a colour of their own: channels that vary together, and by very different amounts."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[30.0, 0, 0], [20, 12, 0], [-8, 4, 3]])[: shape[0], : shape[0]]
    colour = 120 + torch.randn(count, shape[0], generator=generator) @ mix.T
    return (
        (colour[:, :, None, None] + 10 * torch.randn(count, *shape, generator=generator))
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )


def _fitted(start: Start) -> Start:
    fresh = build(start.spec, Start, where="start", project_only=True)
    fresh.fit(_images())
    return fresh


# What every start promises.


@pytest.mark.parametrize(("start", "family"), CASES, ids=IDS)
def test_draws_are_keyed_by_seed_and_index_alone(start, family):
    start = _fitted(start)
    start.check(family, SHAPE)
    x, params = start.draw(RandomStreams(5), [7, 0, 3], family, SHAPE)
    assert x.shape == (3, *SHAPE) and x.dtype == torch.float32 and x.is_contiguous() and bool(torch.isfinite(x).all())
    alone, alone_params = start.draw(RandomStreams(5), torch.tensor([3]), family, SHAPE)
    assert torch.equal(alone[0], x[2]) and all(
        torch.equal(value[0], params[name][2]) for name, value in alone_params.items()
    )
    assert alone_params.keys() == params.keys()
    other, _ = start.draw(RandomStreams(6), [7, 0, 3], family, SHAPE)
    assert not (other == x).flatten(1).all(1).any() and not torch.equal(x[0], x[1])


@pytest.mark.parametrize(("start", "family"), CASES, ids=IDS)
def test_a_checkpoint_carries_it(start, family):
    """spec and state as plain data, through JSON, give the same draws without images."""
    start = _fitted(start)
    again = build(json.loads(json.dumps(start.spec)), Start, where="start", project_only=True)
    again.load(json.loads(json.dumps(start.state())))
    assert again.fitted and again.spec == start.spec
    assert torch.equal(
        again.draw(RandomStreams(1), [4, 9], family, SHAPE)[0], start.draw(RandomStreams(1), [4, 9], family, SHAPE)[0]
    )
    assert yaml.safe_load(yaml.safe_dump(start.state())) == start.state()


@pytest.mark.parametrize(("start", "family"), CASES, ids=IDS)
def test_draws_are_end_states(start, family):
    """D(x, T) with the drawn parameters, of images as far apart as can be, is x_T or has its structure."""
    x_T, params = _fitted(start).draw(RandomStreams(2), [0, 1], family, SHAPE)
    if params:
        for x in (torch.ones(2, *SHAPE), -torch.ones(2, *SHAPE)):
            assert (family(x, family.severities, params) - x_T).abs().max() < 0.01
    else:
        assert (family(x_T, family.severities) - x_T).abs().max() < 0.2


@pytest.mark.parametrize("start", [s for s, _ in CASES], ids=IDS)
def test_each_suits_its_own_family_alone(start):
    own = next(family for other, family in CASES if other is start)
    for _, family in CASES:
        if family is not own:
            with pytest.raises(UserError, match="is no start for"):
                start.check(family, SHAPE)
    for family in (GaussianMask(steps=5), GaussianBlur(data="cifar10"), Desaturation(steps=4)):
        with pytest.raises(UserError, match=f"{type(start).__name__} is no start for"):
            start.check(family, SHAPE)


def test_impossible_images_are_the_familys_complaint():
    with pytest.raises(UserError, match="wider than the image"):
        ConstantColour().check(BLUR, (3, 8, 8))


# One colour.


def test_one_component_is_mean_and_covariance():
    images = _images(500)
    start = ConstantColour()
    start.fit(images)
    means = to_float(images).double().mean((2, 3))
    assert torch.allclose(start.mixture.means[0], means.mean(0), atol=1e-7)
    assert torch.allclose(
        start.mixture.covariances[0], means.T.cov(correction=0) + 1e-6 * torch.eye(3, dtype=torch.float64), atol=1e-9
    )


def test_drawn_colours_have_the_moments_of_the_fit():
    """Within 5 standard errors: of a mean sqrt(S_ii / n), of a covariance sqrt((S_ii S_jj + S_ij^2) / n)."""
    start, n = ConstantColour(noise=0.0), 3000
    start.fit(_images(500))
    x, params = start.draw(RandomStreams(0), range(n), BLUR, SHAPE)
    assert params == {} and torch.equal(x, x[:, :, :1, :1].expand_as(x))
    colours, mean, S = x[:, :, 0, 0].double(), start.mixture.mean, start.mixture.covariance
    assert bool(((colours.mean(0) - mean).abs() < 5 * (S.diag() / n).sqrt()).all())
    error = ((torch.outer(S.diag(), S.diag()) + S.square()) / n).sqrt()
    assert bool(((colours.T.cov() - S).abs() < 5 * error).all())


def test_a_mixture_finds_two_kinds_of_images_and_draws_both():
    dark, light = _images(150).sub(100).clamp(0, 40), _images(50, seed=1) // 8 + 200
    start = ConstantColour(components=2, noise=0.0)
    start.fit(torch.cat([dark, light]))
    order = start.mixture.means[:, 0].argsort()
    assert start.mixture.weights[order].tolist() == pytest.approx([0.75, 0.25], abs=1e-3)
    means = to_float(torch.cat([dark, light])).double().mean((2, 3))
    assert torch.allclose(start.mixture.mean, means.mean(0), atol=1e-6)
    assert torch.allclose(start.mixture.covariance, means.T.cov(correction=0), atol=1e-5)
    x, _ = start.draw(RandomStreams(0), range(800), BLUR, SHAPE)
    share = (x[:, 0, 0, 0] > start.mixture.means[:, 0].mean()).double().mean().item()
    assert share == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 800))


def test_broken_symmetry_is_the_same_colour_and_white_noise():
    perfect, broken = ConstantColour(noise=0.0), ConstantColour(noise=0.002)
    for start in (perfect, broken):
        start.fit(_images())
    a, b = (start.draw(RandomStreams(0), range(40), BLUR, SHAPE)[0] for start in (perfect, broken))
    noise = (b - a).double() / 0.002
    count = noise.numel()
    assert noise.mean().item() == pytest.approx(0, abs=5 / math.sqrt(count)) and noise.var().item() == pytest.approx(
        1, abs=5 * math.sqrt(2 / count)
    )
    for axis in (1, 2, 3):  # independent across channels and pixels
        assert (noise * noise.roll(1, axis)).mean().item() == pytest.approx(0, abs=5 / math.sqrt(count))


def test_colours_are_eight_bit_where_the_family_is():
    """The network saw truncated end states only; the noise comes on top."""
    family = GaussianBlur(steps=12, truncate=True)
    start = ConstantColour(noise=0.0)
    start.fit(_images())
    x, _ = start.draw(RandomStreams(0), range(20), family, SHAPE)
    levels = (x.double() + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-4)


def test_grey_images_with_three_channels_have_a_fit():
    grey = _images(40)[:, :1].expand(-1, 3, -1, -1)
    start = ConstantColour(noise=0.0)
    start.fit(grey)
    x, _ = start.draw(RandomStreams(0), range(50), BLUR, SHAPE)
    assert (x[:, 0] - x[:, 1]).abs().max() < 6 * math.sqrt(2e-6)


def test_too_many_images_are_thinned_evenly():
    images = _images(100)
    thinned, chosen = ConstantColour(max_images=25), ConstantColour()
    thinned.fit(images)
    chosen.fit(images[::4])
    assert thinned.state() == chosen.state()


def test_the_rule_of_what_is_left():
    """Half a wave over the side of a circular blur is no eigenvector, but a family that keeps a tenth of the image
    keeps a tenth of it.
    """
    assert left_at_end(BLUR, SHAPE) < 1e-3
    assert left_at_end(GaussianBlur(data="cifar10"), (3, 32, 32)) > 0.5
    params = Blend(left=0.2).draw_batch(RandomStreams(0), [0], SHAPE)
    assert left_at_end(Blend(left=0.2), SHAPE, params) == pytest.approx(0.2, rel=0.02)
    with pytest.raises(UserError, match="leaves 20% of the image"):
        OtherImage().check(Blend(left=0.2), SHAPE)
    ConstantColour().check(GaussianBlur(data="cifar10", to_mean=True), (3, 32, 32))
    ConstantColour().check(Pixelation(steps=4), SHAPE)  # down to one pixel


# Coarse pixels.


@pytest.mark.parametrize(("side", "size", "steps"), [(2, 16, 3), (4, 16, 2), (2, 28, 4), (4, 28, 3), (1, 16, 4)])
def test_coarse_pixels_are_what_pixelation_by_areas_leaves(side, size, steps):
    """Up to the variance added by the fit, mean and covariance of D(x, T) over the training images themselves, also on
    sides that halves do not divide.
    """
    family, images, shape = Pixelation(steps=steps, mode="area"), _images(300, (1, size, size)), (1, size, size)
    start = CoarsePixels(side=side)
    start.check(family, shape)
    start.check(Pixelation(steps=steps), shape)
    start.fit(images)
    left = F.interpolate(family(to_float(images), steps), size=(side, side), mode="nearest-exact").double().flatten(1)
    assert torch.allclose(start.mixture.mean, left.mean(0), atol=1e-6)
    assert torch.allclose(
        start.mixture.covariance,
        left.T.cov(correction=0).reshape(side**2, side**2) + 1e-6 * torch.eye(side**2),
        atol=1e-7,
    )
    x, _ = start.draw(RandomStreams(0), [0, 1], family, shape)
    assert len(x[0].unique()) <= side**2
    if size % side == 0 and (size // side).bit_count() == 1:
        assert torch.allclose(family(x, steps), x, atol=1e-5)


def test_drawn_pixels_have_the_moments_of_the_fit():
    start, n = CoarsePixels(), 2000
    start.fit(_images(500))
    x, params = start.draw(RandomStreams(0), range(n), COARSE, SHAPE)
    vectors, S = x[:, :, ::8, ::8].flatten(1).double(), start.mixture.covariance
    assert params == {} and bool(((vectors.mean(0) - start.mixture.mean).abs() < 5 * (S.diag() / n).sqrt()).all())
    assert bool(((vectors.T.cov() - S).abs() < 5 * ((torch.outer(S.diag(), S.diag()) + S.square()) / n).sqrt()).all())


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_pixelation_to_another_side_is_refused(steps):
    with pytest.raises(UserError, match="2x2 large pixels"):
        CoarsePixels().check(Pixelation(steps=steps), SHAPE)


# What the family draws itself.


def test_pure_noise_is_the_noise_that_stays():
    family = GaussianNoiseFamily(steps=20)
    x, params = PureNoise().draw(RandomStreams(0), range(50), family, SHAPE)
    assert torch.equal(x, params["noise"])
    assert x.mean().item() == pytest.approx(0, abs=5 / math.sqrt(x.numel())) and x.var().item() == pytest.approx(
        1, abs=5 * math.sqrt(2 / x.numel())
    )


def test_a_full_mask_is_its_colour():
    x, params = FullMask().draw(RandomStreams(0), range(400), CoveringMask(steps=30), SHAPE)
    assert torch.equal(x, params["colour"].expand_as(x))
    colours = x[:, :, 0, 0]
    assert colours.min() >= -0.5 and colours.max() < 0.5 and colours.var().item() == pytest.approx(1 / 12, rel=0.1)


# Refusals.


def test_mistakes_are_sentences():
    for wrong, message in (
        (lambda: ConstantColour(noise=-0.1), "noise must be finite"),
        (lambda: ConstantColour(components=0), "components must be"),
        (lambda: ConstantColour(max_images=0), "max_images must be"),
        (lambda: CoarsePixels(side=0), "side must be"),
        (lambda: ConstantColour().fit(_images(3)), "at least 4 training images, got 3"),
        (lambda: ConstantColour().fit(_images(0)), "got 0"),
        (lambda: CoarsePixels().fit(_images(12)), "at least 13 training images"),
        (lambda: CoarsePixels(side=32).fit(_images()), "larger than the images"),
        (lambda: CoarsePixels(side=32).check(COARSE, SHAPE), "it leaves 2x2 pixels of 16x16"),
        (lambda: ConstantColour().draw(RandomStreams(0), [0], BLUR, SHAPE), "has not seen any training images"),
        (lambda: _fitted(ConstantColour()).draw(RandomStreams(0), [0], BLUR, (1, 16, 16)), "fitted to 3 numbers"),
        (lambda: PureNoise().load({"means": []}), "learns nothing"),
        (lambda: ConstantColour().load({"means": []}), "trained with another start"),
        (lambda: ConstantColour().load({"weights": [1.0], "means": [[0.0]], "covariances": [[[-1.0]]]}), "damaged"),
        (lambda: ConstantColour().load({"weights": [0.5], "means": [[0.0]], "covariances": [[[1.0]]]}), "damaged"),
        (lambda: ConstantColour().load({"weights": [1.0], "means": [[0.0, 1.0]], "covariances": [[[1.0]]]}), "damaged"),
        (lambda: ConstantColour().load({"weights": "a", "means": 1, "covariances": None}), "damaged"),
    ):
        with pytest.raises(UserError, match=message):
            wrong()
    with pytest.raises(TypeError, match="uint8"):
        ConstantColour().fit(torch.zeros(9, 3, 4, 4))
    assert not ConstantColour().fitted and ConstantColour().state() == {} and PureNoise().fitted


# Why noise is needed.


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_without_noise_shifts_leave_nothing_to_unfold(noise):
    """A restorer that commutes with shifts makes a constant of a constant through all of Algorithm 2; a trace of noise
    becomes an image.
    """
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((8, 3, 3, 3), (3, 8, 3, 3))]

    def restore(x):
        for weight in weights:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight).tanh()
        return x

    start = ConstantColour(noise=noise)
    start.fit(_images())
    x = start.draw(RandomStreams(0), [0, 1], BLUR, SHAPE)[0].double()
    for s in range(BLUR.severities, 0, -1):
        x0 = restore(x)
        x = x - BLUR(x0, s) + BLUR(x0, s - 1)
    spread = x.std((2, 3)).max().item()
    assert spread < 1e-6 if noise == 0 else spread > 0.002
