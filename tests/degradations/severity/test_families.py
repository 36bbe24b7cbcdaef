"""What every family of severities satisfies, and the numbers of the reference."""

import itertools

import pytest
import torch

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.at_severity import AtSeverity
from degradations.base import Shape
from degradations.severity.animorph import Animorph
from degradations.severity.base import SeverityFamily
from degradations.severity.desaturation import Desaturation
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask, GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation
from degradations.severity.snow import Snow

DIGITS = {"class_path": "datamodules.digits.Digits"}
#: (family, shape of its images)
FAMILIES: dict[str, tuple[SeverityFamily, Shape]] = {
    "blur_mnist": (GaussianBlur(), (1, 28, 28)),
    "blur_cifar10": (GaussianBlur(data="cifar10"), (3, 32, 32)),
    "blur_celeba_64": (GaussianBlur(data="celeba_64"), (3, 64, 48)),
    "blur_truncated": (GaussianBlur(steps=9, taps=5, truncate=True, to_mean=True), (3, 9, 12)),
    "mask_mnist": (GaussianMask(), (1, 28, 28)),
    "mask_odd": (GaussianMask(steps=12, truncate=True), (3, 9, 14)),
    "mask_centre": (GaussianMask(data="celeba_64"), (3, 64, 64)),
    "covering": (CoveringMask(steps=60, kernel_std=0.3), (3, 16, 20)),
    "pixelation_28": (Pixelation(), (1, 28, 28)),
    "pixelation_32": (Pixelation(data="cifar10"), (3, 32, 32)),
    "pixelation_odd": (Pixelation(steps=4, mode="area"), (3, 21, 18)),
    "snow": (Snow(), (3, 32, 32)),
    "snow_bright": (Snow(level=1, steps=17, brightness=True), (1, 11, 16)),
    "desaturation": (Desaturation(), (3, 8, 12)),
    "desaturation_constant": (Desaturation(schedule="constant"), (3, 8, 8)),
    "noise": (GaussianNoiseFamily(), (3, 8, 9)),
    "animorph": (Animorph(other=DIGITS, steps=30), (1, 8, 8)),
}
CASES = [pytest.param(family, shape, id=name) for name, (family, shape) in FAMILIES.items()]


def images(count: int, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return (torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1).to(
        dtype
    )


def drawn(family: SeverityFamily, shape: Shape, index=(4, 7, 9, 20)) -> dict[str, torch.Tensor]:
    return family.draw_batch(RandomStreams(1), list(index), shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_severity_zero_is_the_image_bit_for_bit(family, shape, dtype):
    x = images(4, shape, dtype)
    assert torch.equal(family(x, 0, drawn(family, shape)), x)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_a_batch_of_mixed_severities_is_its_images_one_by_one(family, shape):
    x, params, last = images(4, shape), drawn(family, shape), family.severities
    severities = torch.tensor([last, 0, (last + 1) // 2, 1])
    together = family(x, severities, params)
    assert together.dtype == x.dtype and together.shape == x.shape
    for b, t in enumerate(severities.tolist()):
        alone = family(x[b : b + 1], t, {name: v[b : b + 1] for name, v in params.items()})
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_what_is_drawn_belongs_to_the_image(family, shape):
    together, other = drawn(family, shape), drawn(family, shape, (20, 5))
    for name, value in other.items():
        assert torch.equal(value[0], together[name][3])
    assert family.draws == any(len(value.unique(dim=0)) > 1 for value in drawn(family, shape, range(40)).values())


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_single_and_double_precision_agree_also_inside_autocast(family, shape):
    if getattr(family, "truncate", False):
        pytest.skip("truncation to 8 bits turns rounding into steps of a grey level")
    x, params, t = (
        images(4, shape, torch.float64),
        drawn(family, shape),
        torch.tensor([family.severities, 1, 2, (family.severities + 1) // 2]),
    )
    exact = family(x, t, {n: v.double() if v.is_floating_point() else v for n, v in params.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = family(x.float(), t, params)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_an_operator_is_the_family_at_one_severity(family, shape):
    x, params = images(4, shape), drawn(family, shape)
    for t in (1, family.severities):
        operator = AtSeverity(family=family, severity=t).operator_for(shape, [4, 7, 9, 20], RandomStreams(1))
        if isinstance(family, GaussianNoiseFamily):  # noise is never hidden in an operator
            torch.testing.assert_close(operator(x) + family.sigma_at(t) * params["noise"], family(x, t, params))
        else:
            torch.testing.assert_close(operator(x), family(x, t, params), atol=1e-6, rtol=0)
        twice = operator.repeat(2)
        torch.testing.assert_close(
            twice(x.repeat_interleave(2, 0)), operator(x).repeat_interleave(2, 0), atol=1e-6, rtol=0
        )
        assert operator.linear == (family.linear if not isinstance(family, GaussianNoiseFamily) else True)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_the_options_of_a_checkpoint_build_the_same_family(family, shape):
    again = build(family.spec, SeverityFamily, where="the test", project_only=True)
    assert again.same_as(family) and again.description == family.description
    for name, (other, _) in FAMILIES.items():
        # both are 3 halvings
        same = (
            {name} <= {"pixelation_28", "pixelation_32"} and isinstance(family, Pixelation) and family.mode == "bicubic"
        )
        assert family.same_as(other) == (other is family or same), name


SMOOTH = [
    "blur_mnist",
    "blur_cifar10",
    "blur_celeba_64",
    "mask_mnist",
    "mask_centre",
    "covering",
    "desaturation",
    "noise",
    "animorph",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_a_small_change_of_severity_is_a_small_change_of_the_image(name):
    """No step of a family without jumps is larger than a multiple of the mean step of the whole path; that of a strong
    blur is the first, 1 of 20.
    """
    family, shape = FAMILIES[name]
    x, params = images(4, shape), drawn(family, shape)
    path = [family(x, t, params) for t in range(family.severities + 1)]
    steps = [float((b - a).square().mean().sqrt()) for a, b in itertools.pairwise(path)]
    whole = float((path[-1] - path[0]).square().mean().sqrt())
    assert max(steps) < (1.01 * whole if name.startswith("blur") else 6 * whole / family.severities)
    assert name == "covering" or all(s > 0 for s in steps)  # the last of a covering is less than rounding


def test_the_end_states_that_are_documented():
    x = images(4, (3, 32, 32), torch.float64)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(
        GaussianBlur(data="generation", to_mean=True)(images(2, (3, 128, 128)), 300)[:, :, 0, 0],
        images(2, (3, 128, 128)).mean((2, 3)),
    )
    torch.testing.assert_close(GaussianBlur(steps=400)(x, 400), mean, atol=1e-9, rtol=0)
    grey = x.mean(1, keepdim=True).expand_as(x)
    for schedule in ("linear", "constant"):
        torch.testing.assert_close(Desaturation(schedule=schedule)(x, 20), grey, atol=1e-12, rtol=0)
    torch.testing.assert_close(Desaturation()(x, 5), 0.75 * x + 0.25 * grey, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        Desaturation(schedule="constant")(x, 3), 0.9**3 * x + (1 - 0.9**3) * grey, atol=1e-12, rtol=0
    )
    family = CoveringMask(steps=30)
    params = drawn(family, (3, 32, 32))
    torch.testing.assert_close(family(x, 30, params), params["colour"].double().expand_as(x), atol=1e-7, rtol=0)
    assert bool((params["colour"].abs() <= 0.5).all())
    pixels = Pixelation(steps=5)(x, 5)
    assert len(pixels[0, 0].unique()) == 1 and torch.equal(
        Pixelation(data="cifar10")(x, 3)[:, :, :8, :8].flatten(2).std(2) < 1e-12, torch.ones(4, 3).bool()
    )
    noise = GaussianNoiseFamily()
    assert noise.scale_at(0) == 1 and noise.sigma_at(0) == 0 and noise.scale_at(200) < 1e-3


@pytest.mark.parametrize(("data", "std"), [("mnist", 13.58), ("cifar10", 4.18), ("celeba", 39.3), ("generation", 86.0)])
def test_the_true_width_of_a_blur(data, std):
    """Reference 2.3; the kernel of MNIST, std 7 on 11 taps, has a true std of 3.04."""
    assert GaussianBlur(data=data).true_std == pytest.approx(std, rel=2e-3)
    assert GaussianBlur(data="mnist", steps=1).true_std == pytest.approx(3.04, abs=0.005)
    assert GaussianBlur(data="mnist", steps=40).true_std == pytest.approx(19.21, abs=0.01)


def test_blur_is_convolution_after_convolution():
    """Torch's own convolution with its own padding, kernel by kernel, in both borders."""
    x = images(2, (3, 32, 30), torch.float64)
    for data, border in (("mnist", "circular"), ("cifar10", "reflect")):
        family, y = GaussianBlur(data=data), x
        for i in range(family.severities):
            taps = torch.arange(family.taps, dtype=torch.float64) - family.taps // 2
            line = torch.exp(-taps.square() / (2 * family.stds[i] ** 2))
            kernel = torch.outer(line, line) / line.sum() ** 2
            half = family.taps // 2
            padded = torch.nn.functional.pad(y, (half,) * 4, mode=border)
            y = torch.nn.functional.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3)
            if i in (0, 1, 7, family.severities - 1):
                torch.testing.assert_close(family(x, i + 1), y, atol=1e-13, rtol=0)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "area"])
def test_pixelation_is_resizing_down_and_up_again(mode):
    x, family = images(2, (3, 32, 64), torch.float64), Pixelation(mode=mode, steps=4)
    y = x
    for i in range(4):
        options = {} if mode == "area" else {"align_corners": False, "antialias": False}
        small = torch.nn.functional.interpolate(y, size=(32 >> (i + 1), 64 >> (i + 1)), mode=mode, **options)
        y = torch.nn.functional.interpolate(small, size=(32, 64), mode="nearest-exact")
        torch.testing.assert_close(family(x, i + 1), y, atol=1e-13, rtol=0)
    assert Pixelation().table(32).values[1][0, :3].tolist() == pytest.approx([0.5, 19 / 32, -3 / 32])
    assert Pixelation().table(32).values[1][4, 3:7].tolist() == pytest.approx([-3 / 32, 19 / 32, 19 / 32, -3 / 32])
    assert [Pixelation().side_at(28, t) for t in range(4)] == [28, 14, 7, 4]


@pytest.mark.parametrize(("side", "centre"), [(128, 63), (7, 3)])
def test_a_centred_hole_is_in_the_middle_of_odd_sides_too(side, centre):
    """2.4: at side / 2 - 1 of an even side; an odd one has a middle, about which hole and covering are symmetric."""
    shape = (1, side, side)
    hole = GaussianMask(data="celeba")
    assert hole.sample(1, shape, torch.Generator())["place"].tolist() == [[centre, centre]]
    covering = CoveringMask(steps=5)
    left = covering(torch.ones(1, *shape), 2, {"colour": torch.zeros(1, 1, 1, 1)})
    assert (left == left.max()).nonzero()[:, 2:].tolist() == [[centre, centre]]
    if side % 2:
        torch.testing.assert_close(left, left.flip(2, 3))


def test_holes_are_where_and_as_large_as_the_reference_says():
    """2.4: more than half of a CIFAR-10 image is lost with start 11, 36 % with start 1; centres lie in -1 ..
    side - 1.
    """
    for start, lost in ((11, 0.56), (1, 0.36)):
        family = GaussianMask(data="cifar10", start=start)
        left = family.masks(torch.tensor([50]), torch.tensor([[15, 15]]), images(1, (1, 32, 32)))
        assert float((left < 0.5).float().mean()) == pytest.approx(lost, abs=0.005)
        assert left[0, 0, 15, 15] == 0
    places = GaussianMask().sample(40_000, (1, 5, 9), torch.Generator().manual_seed(0))["place"]
    assert places[:, 0].unique().tolist() == list(range(-1, 5)) and places[:, 1].unique().tolist() == list(range(-1, 9))
    assert bool((places[:, 0].add(1).bincount() / 40_000 - 1 / 6).abs().max() < 0.01)
    assert GaussianMask(data="celeba").sample(2, (3, 128, 128), torch.Generator())["place"].tolist() == [
        [63, 63],
        [63, 63],
    ]
    # The hole is the product of the bumps, whatever window of the table it is.
    family, x = GaussianMask(steps=3, start=2, kernel_std=0.7), torch.ones(1, 1, 6, 7, dtype=torch.float64)
    rows, columns = torch.arange(6.0, dtype=torch.float64)[:, None] - 1, torch.arange(7.0, dtype=torch.float64) + 1
    expected = torch.ones(6, 7, dtype=torch.float64)
    for i in range(3):
        expected *= 1 - torch.exp(-(rows**2 + columns**2) / (2 * (0.7 * (i + 2)) ** 2))
    torch.testing.assert_close(family(x, 3, {"place": torch.tensor([[1, -1]])})[0, 0], expected, atol=1e-14, rtol=0)


def test_the_covering_is_revealed_from_its_middle():
    family = CoveringMask(steps=50, kernel_std=0.1)
    cover = family._table(12, 16).values
    assert (
        bool((cover[1:] >= cover[:-1] - 1e-15).all())
        and bool((cover[1:50, 5, 7] == 0).all())
        and float(cover[50].min()) == 1
    )
    # Reference 2.10: T - t bumps at severity t, of std 0.05 (i + 1), i = 0 .. T - 1 - t.
    at = 1.0
    for i in range(50 - 20):
        at *= 1 - torch.exp(torch.tensor(-((3.0**2 + 4.0**2) / (2 * (0.1 * (i + 1)) ** 2)), dtype=torch.float64))
    assert float(cover[20, 8, 11]) == pytest.approx(float(at), rel=1e-12)
    assert float(CoveringMask()._table(128, 128).values[1].max()) == pytest.approx(0.0070, abs=1e-4)


def test_estimated_noise_is_the_noise():
    family, x = GaussianNoiseFamily(steps=30), images(4, (1, 8, 8), torch.float64)
    params, t = {"noise": images(4, (1, 8, 8), torch.float64, seed=3)}, torch.tensor([1, 9, 20, 30])
    torch.testing.assert_close(family.noise_of(family(x, t, params), x, t), params["noise"], atol=1e-10, rtol=0)


def test_truncation_is_eight_bits_and_leaves_severity_zero():
    family = GaussianBlur(steps=9, taps=5, truncate=True)
    x = images(4, (1, 9, 12))
    levels = (family(x, 4) + 1) / 2 * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    exact = (GaussianBlur(steps=9, taps=5)(x, 4) + 1) / 2 * 255
    assert bool((exact - levels > -1e-3).all()) and bool((exact - levels < 1 + 1e-3).all())


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_severities_and_shapes_out_of_range(family, shape):
    x, params = images(4, shape), drawn(family, shape)
    for t in (-1, family.severities + 1, torch.tensor([0, 1, 1, family.severities + 1])):
        with pytest.raises(ValueError, match=rf"t must lie in 0\.\.{family.severities}"):
            family(x, t, params)
    for t in (torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([1, 1])):
        with pytest.raises(ValueError, match="t must be whole numbers"):
            family(x, t, params)
    for t in (-1, family.severities + 1):
        with pytest.raises(UserError, match=r"severity must lie in 0\.\."):
            AtSeverity(family=family, severity=t)


@pytest.mark.parametrize(
    ("make", "shape", "match"),
    [
        (lambda: GaussianBlur(), (1, 8, 28), "taps=11 is wider than the image of 8x28"),
        (lambda: GaussianBlur(data="cifar10"), (3, 5, 32), "taps=11 reaches 5 pixels"),
        (lambda: Pixelation(steps=5), (1, 16, 28), "leave less than one pixel: take at most 4"),
        (lambda: Snow(), (3, 10, 32), "blurred over 11 pixels"),
        (lambda: Desaturation(), (1, 28, 28), "needs colour images"),
        (lambda: GaussianMask(), (1, 1, 28), "at least 2x2"),
        (lambda: Animorph(other=DIGITS), (1, 28, 28), r"has images of \[1, 8, 8\]"),
    ],
)
def test_images_that_do_not_suit_are_refused_before_any_work(make, shape, match):
    with pytest.raises(UserError, match=match):
        AtSeverity(family=make()).operator_for(shape, [0], RandomStreams(0))


@pytest.mark.parametrize(
    ("family", "options", "match"),
    [
        (GaussianBlur, {"data": "lsun"}, "data must be one of"),
        (GaussianBlur, {"taps": 4}, "taps must be odd"),
        (GaussianBlur, {"steps": 0}, "steps must be a whole number of at least 1"),
        (GaussianBlur, {"border": "zeros"}, "border must be circular or reflect"),
        (GaussianBlur, {"std": 1.0, "std_step": -0.5}, "must be positive at every step"),
        (GaussianMask, {"kernel_std": 0.0}, "kernel_std must be positive"),
        (GaussianMask, {"place": "left"}, "place random or centre"),
        (CoveringMask, {"kernel_std": -1.0}, "kernel_std must be positive"),
        (Pixelation, {"mode": "lanczos"}, "mode bicubic, bilinear or area"),
        (Desaturation, {"schedule": "fast"}, "schedule linear or constant"),
        (GaussianNoiseFamily, {"steps": 0}, "steps must be a whole number"),
        (Animorph, {"other": "datamodules.mnist.MNIST"}, "other must be a data module"),
    ],
)
def test_mistaken_options(family, options, match):
    with pytest.raises(UserError, match=match):
        family(**options)
