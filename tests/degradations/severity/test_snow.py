"""Snow against its definition, an independent computation in numpy and scipy, and the table of the
released constants.
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d, zoom

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.severity.base import SeverityFamily
from degradations.severity.snow import Snow

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 13, 20)]


def images(count: int, shape: tuple[int, int, int], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def drawn(family: SeverityFamily, count: int, shape: tuple[int, int, int], seed: int = 1) -> dict[str, torch.Tensor]:
    return family.sample(count, shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("brightness", [False, True])
def test_severity_zero_is_the_image_even_outside_of_the_range(shape, brightness):
    family = Snow(brightness=brightness)
    x = 1.5 * images(4, shape)
    assert torch.equal(family(x, 0, drawn(family, 4, shape)), x)


def by_hand(x, layer, vertical, t, *, steps, thresholds, blurs, kept, taps, brightness):
    """D of one image [C, H, W] in numpy: in [0, 1], as the definition has it, index t - 1 of linspace."""
    fraction = (t - 1) / (steps - 1)
    threshold, sigma, share = (a + (b - a) * fraction for a, b in (thresholds, blurs, kept))
    flakes = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    fallen = convolve1d(flakes, weights / weights.sum(), axis=0 if vertical else 1, mode="constant", cval=0)
    u = (x + 1) / 2
    if brightness:
        grey = u if len(u) == 1 else np.tensordot([0.299, 0.587, 0.114], u, 1)[None]
        u = share * u + (1 - share) * np.maximum(u, 1.5 * grey + 0.5)
    return np.clip(u + fallen + np.rot90(fallen, 2), 0, 1) * 2 - 1


LEVELS = {  # the table of the reference
    1: {"thresholds": (0.7, 0.3), "blurs": (0.5, 5), "kept": (0.95, 0.7), "taps": 5},
    2: {"thresholds": (1.15, 0.7), "blurs": (0.05, 12), "kept": (0.95, 0.55), "taps": 11},
    3: {"thresholds": (1.15, 0.7), "blurs": (0.05, 16), "kept": (0.95, 0.4), "taps": 11},
    4: {"thresholds": (1.15, 0.55), "blurs": (0.05, 20), "kept": (0.95, 0.3), "taps": 11},
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("brightness", [False, True])
def test_equals_an_independent_computation(level, shape, brightness):
    family = Snow(level=level, steps=40, brightness=brightness)
    t = torch.tensor([1, 2, 7, 20, 39, 40, 40, 5])
    params = {name: v.double() if v.is_floating_point() else v for name, v in drawn(family, len(t), shape).items()}
    assert params["vertical"].any() and not params["vertical"].all()
    x = images(len(t), shape, dtype=torch.float64)
    y = family(x, t, params)
    for b, severity in enumerate(t.tolist()):
        layer, vertical = params["layer"][b, 0].numpy(), bool(params["vertical"][b])
        expected = by_hand(x[b].numpy(), layer, vertical, severity, steps=40, brightness=brightness, **LEVELS[level])
        np.testing.assert_allclose(y[b].numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(
            family(x[b : b + 1].float(), severity, {k: v[b : b + 1].float() for k, v in params.items()})[0],
            expected,
            atol=2e-6,
        )


def test_constants_of_the_data_sets():
    cifar, celeba, celeba_64 = Snow(), Snow(data="celeba"), Snow(data="celeba_64")
    assert [f.level for f in (cifar, celeba, celeba_64)] == [3, 4, 4] and {
        f.severities for f in (cifar, celeba, celeba_64)
    } == {200}
    assert (cifar.threshold_at(1), cifar.threshold_at(200)) == pytest.approx((1.15, 0.7))
    assert (celeba.threshold_at(1), celeba.threshold_at(200)) == pytest.approx((1.15, 0.55))
    assert (cifar.blur_at(1), cifar.blur_at(200), celeba.blur_at(200)) == pytest.approx((0.05, 16, 20))
    assert cifar.threshold_at(100) == pytest.approx(1.15 - 0.45 * 99 / 199)
    assert not cifar.brightness and not cifar.linear


@pytest.mark.parametrize("side", [11, 12, 28, 31, 32, 64])
@pytest.mark.parametrize("level", [1, 3])
def test_layer_is_an_enlarged_crop_of_normals(side, level):
    """The enlargement equals scipy's of the middle of a full layer."""
    family = Snow(level=level)
    factor = 3 if level == 1 else 2.5
    full = np.random.default_rng(side).normal(0.55, 0.3, (side, side))
    points = int(np.ceil(side / factor))
    top = (side - points) // 2
    middle = full[top : top + points, top : top + points]
    enlarged = zoom(middle, factor, order=1, mode="nearest")
    trim = (len(enlarged) - side) // 2
    matrix = family._enlargement(side).values.numpy()
    np.testing.assert_allclose(matrix @ middle @ matrix.T, enlarged[trim : trim + side, trim : trim + side], atol=1e-12)


def test_layer_has_the_mean_of_the_normals():
    layer = drawn(Snow(), 2000, (3, 32, 32))["layer"]
    assert layer.shape == (2000, 1, 32, 32)
    assert layer.mean().item() == pytest.approx(0.55, abs=2e-3)
    # a corner of the enlarged crop is one normal itself
    assert layer[:, 0, 0, 0].std().item() == pytest.approx(0.3, abs=0.02)
    assert drawn(Snow(), 2000, (3, 32, 32))["vertical"].float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("vertical", [False, True])
def test_one_flake_falls_along_its_line_with_its_rotated_twin(vertical):
    family = Snow()
    layer = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    layer[0, 0, 8, 9] = 0.9
    params = {"layer": layer, "vertical": torch.tensor([vertical])}
    snow = family.snow(torch.tensor([200]), params, layer)
    assert torch.allclose(snow, snow.flip((2, 3)), atol=1e-15)
    assert snow.sum().item() == pytest.approx(2 * 0.9)
    rows, columns = (set(axis.tolist()) for axis in snow[0, 0].nonzero(as_tuple=True))
    along, across = (rows, columns) if vertical else (columns, rows)
    assert len(across) == 2 and len(along) > 11
    first = family.snow(torch.tensor([1]), {**params, "layer": layer / 0.9 * 1.2}, layer)  # saturated, hardly blurred
    assert first[0, 0, 8, 9].item() == pytest.approx(1) and first.sum().item() == pytest.approx(2)


def test_mixed_severities_equal_one_by_one():
    family = Snow()
    t = torch.randint(0, 201, (12,), generator=torch.Generator().manual_seed(2))
    t[0], t[1] = 0, 200
    x, params = images(12, (3, 32, 32)), drawn(family, 12, (3, 32, 32))
    together = family(x, t, params)
    for b in range(12):
        alone = family(x[b : b + 1], int(t[b]), {name: v[b : b + 1] for name, v in params.items()})
        assert torch.allclose(alone[0], together[b], atol=1e-6)


def test_range_and_more_snow_with_severity():
    family = Snow(data="celeba")
    x, params = images(16, (3, 64, 64)), drawn(family, 16, (3, 64, 64))
    change = []
    for t in (1, 50, 100, 150, 200):
        y = family(x, t, params)
        assert y.min() >= -1 and y.max() <= 1
        change.append((y - x).abs().mean().item())
        assert (y >= x - 1e-6).all()  # snow never darkens
    assert change == sorted(change) and change[0] < 0.1 < change[-1]


def test_channels_share_the_snow():
    family = Snow()
    x = torch.full((2, 3, 32, 32), -1.0)
    y = family(x, 120, drawn(family, 2, (3, 32, 32)))
    assert torch.equal(y[:, 0], y[:, 1]) and torch.equal(y[:, 0], y[:, 2]) and not torch.equal(y[0], y[1])


def test_keyed_draw_does_not_depend_on_the_batch():
    family, random, shape = Snow(), RandomStreams(3), (3, 32, 32)
    batch = family.draw_batch(random, [5, 2, 9], shape)
    alone = family.draw_batch(random, [9], shape)
    assert torch.equal(batch["layer"][2], alone["layer"][0]) and batch["vertical"][2] == alone["vertical"][0]
    assert not torch.equal(batch["layer"][0], batch["layer"][1])
    assert not torch.equal(family.draw(RandomStreams(4), 9, shape)["layer"], alone["layer"][0])
    assert len({bool(family.draw(random, i, shape)["vertical"]) for i in range(20)}) == 2


def test_as_an_operator():
    family, shape = Snow(), (3, 32, 32)
    x, params = images(3, shape), drawn(family, 3, shape)
    operator = family.at(77, params, shape)
    assert not operator.linear and operator.output_shape == shape
    assert torch.equal(operator(x), family(x, 77, params))
    assert torch.equal(operator.repeat(2)(x.repeat_interleave(2, 0)), operator(x).repeat_interleave(2, 0))


def test_gradient_is_that_of_the_clip():
    family = Snow()
    params = drawn(family, 2, (1, 28, 28))
    x = images(2, (1, 28, 28)).requires_grad_()
    y = family(x, 100, params)
    y.sum().backward()
    assert torch.equal(x.grad, ((y.detach() > -1) & (y.detach() < 1)).float())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"level": 5}, "level"), ({"level": 0}, "level"), ({"steps": 0}, "steps"), ({"data": "mnist"}, "data")],
)
def test_mistaken_options(options, said):
    with pytest.raises(UserError, match=said):
        Snow(**options)


def test_mistaken_images():
    with pytest.raises(UserError, match="8x8"):
        Snow().check((1, 8, 8))
    Snow(level=1).check((1, 8, 8))
    with pytest.raises(UserError, match="channels"):
        Snow(brightness=True).check((4, 32, 32))
    with pytest.raises(UserError, match=r"0\.\.200"):
        Snow().at(201, drawn(Snow(), 1, (1, 28, 28)), (1, 28, 28))


def test_one_step():
    family = Snow(steps=1)
    assert family.threshold_at(1) == pytest.approx(1.15)
    x = images(2, (1, 28, 28))
    assert family(x, 1, drawn(family, 2, (1, 28, 28))).shape == x.shape


def test_recorded():
    spec = Snow(data="celeba", steps=50).spec
    assert spec == {"class_path": "degradations.severity.snow.Snow", "init_args": {"data": "celeba", "steps": 50}}
