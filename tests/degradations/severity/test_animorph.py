"""Animorphosis: a blend of x and an image of another data set, in closed form."""

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from datamodules.digits import Digits
from degradations.severity.alpha_bar import cosine_alpha_bar
from degradations.severity.animorph import Animorph
from diffusion.schedules import Cosine

DIGITS = {"class_path": "datamodules.digits.Digits", "init_args": {}}
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def family() -> Animorph:
    return Animorph(other=DIGITS)


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    images = Digits().images("train")
    return images.get(range(len(images))).image.double() / 127.5 - 1


def drawn(family: Animorph, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return family.sample(count, SHAPE, torch.Generator().manual_seed(seed))


def x(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=dtype) * 2 - 1


def test_severity_zero_is_the_image(family):
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(family(x(5, dtype), 0, drawn(family, 5)), x(5, dtype))


def test_closed_form_at_mixed_severities(family):
    t = torch.tensor([0, 1, 2, 50, 100, 199, 200])
    params = drawn(family, len(t))
    y = family(x(len(t)), t, params)
    schedule = Cosine(steps=200).alphas_bar.double()  # severity t has the entry t - 1
    for b, severity in enumerate(t.tolist()):
        ab = 1.0 if severity == 0 else float(schedule[severity - 1])
        assert torch.allclose(y[b], ab**0.5 * x(len(t))[b] + (1 - ab) ** 0.5 * params["other"][b].double(), atol=1e-12)
        alone = family(x(len(t))[b : b + 1], severity, {"other": params["other"][b : b + 1]})
        assert torch.equal(alone[0], y[b])


def test_the_end_is_the_other_image(family):
    params = drawn(family, 4)
    left = float(cosine_alpha_bar(200)[-1])
    assert left < 1e-7
    assert (family(x(4), 200, params) - params["other"]).abs().max() <= left**0.5 + left


def test_neighbouring_severities_are_close(family):
    params, t = drawn(family, 1), torch.arange(201)
    path = family(x(1).expand(201, -1, -1, -1), t, {"other": params["other"].expand(201, -1, -1, -1)})
    scale = torch.cat([torch.ones(1, dtype=torch.float64), cosine_alpha_bar(200)])
    # |difference| <= |change of scale| + |change of share|, images being in [-1, 1]
    bound = scale.sqrt().diff().abs() + (1 - scale).sqrt().diff().abs()
    assert (path.diff(dim=0).abs().amax((1, 2, 3)) <= bound + 1e-12).all() and bound.max() < 0.03


def test_what_is_drawn_is_an_image_of_the_other_set(family, digits):
    other = drawn(family, 40)["other"]
    assert other.dtype == torch.float32 and other.shape == (40, *SHAPE) and other.min() >= -1 and other.max() <= 1
    nearest = torch.cdist(other.double().flatten(1), digits.flatten(1)).min(1)
    assert nearest.values.max() < 1e-5
    assert len(nearest.indices.unique()) > 30  # of 1,437


def test_the_split_decides(digits):
    other = drawn(Animorph(other=DIGITS, split="test"), 20)["other"]
    test = Digits().images("test")
    pixels = test.get(range(len(test))).image.double().flatten(1) / 127.5 - 1
    assert torch.cdist(other.double().flatten(1), pixels).min(1).values.max() < 1e-5
    assert torch.cdist(other.double().flatten(1), digits.flatten(1)).min(1).values.max() > 0.1


def test_keyed_draw_does_not_depend_on_the_batch(family):
    random = RandomStreams(5)
    batch, alone = family.draw_batch(random, [7, 3, 11], SHAPE), family.draw_batch(random, [11], SHAPE)
    assert torch.equal(batch["other"][2], alone["other"][0])
    assert not torch.equal(batch["other"][0], batch["other"][1])
    assert torch.equal(Animorph(other=DIGITS).draw(random, 11, SHAPE)["other"], alone["other"][0])
    assert family.draws


def test_as_an_operator(family):
    params = drawn(family, 3)
    operator = family.at(60, params, SHAPE)
    assert not operator.linear and torch.equal(operator(x(3)), family(x(3), 60, params))
    assert torch.equal(operator.repeat(2)(x(3).repeat_interleave(2, 0)), operator(x(3)).repeat_interleave(2, 0))


def test_recorded(family):
    spec = family.spec
    assert spec["init_args"] == {"other": DIGITS} and family.same_as(Animorph(**spec["init_args"]))
    assert not family.same_as(Animorph(other=DIGITS, steps=100))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"split": "all"}, "split"),
        ({"other": {"init_args": {}}}, "data module"),
        ({"other": "digits"}, "data module"),
    ],
)
def test_mistaken_options(options, said):
    with pytest.raises(UserError, match=said):
        Animorph(**{"other": DIGITS, **options})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"class_path": "torch.nn.Linear", "init_args": {}}, "own"),
        ({"class_path": "datamodules.digits.Digit", "init_args": {}}, "Digits"),
        ({"class_path": "datamodules.digits.Digits", "init_args": {"validations": 3}}, "validation"),
        ({"class_path": "diffusion.schedules.Cosine", "init_args": {}}, "not a data module"),
    ],
)
def test_mistaken_data_module(other, said):
    with pytest.raises(UserError, match=said):
        drawn(Animorph(other=other), 1)


def test_no_images_in_the_split():
    with pytest.raises(UserError, match="no images of split 'validation'"):
        drawn(Animorph(other={**DIGITS, "init_args": {"validation": 0}}, split="validation"), 1)


def test_images_of_another_shape_are_named_at_every_draw(family):
    for _ in range(2):
        with pytest.raises(UserError, match=r"Digits has images of \[1, 8, 8\].*\[3, 32, 32\]"):
            family.sample(1, (3, 32, 32), torch.Generator())
    assert drawn(family, 1)["other"].shape == (1, *SHAPE)
