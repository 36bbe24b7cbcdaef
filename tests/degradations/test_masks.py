"""Masks: how much is missing, where, and what is refused."""

from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Shape
from degradations.box_mask import BoxMask
from degradations.given_mask import GivenMask
from degradations.mask import Mask
from degradations.random_mask import RandomMask

SHAPES: list[Shape] = [(1, 28, 28), (3, 32, 32), (3, 20, 33), (1, 8, 8), (1, 7, 5)]


def _masks(degradation: Degradation, shape: Shape, index: range | list[int], seed: int = 0) -> torch.Tensor:
    mask = degradation.operator_for(shape, list(index), RandomStreams(seed)).mask
    assert mask is not None and mask.shape == (len(index), 1, *shape[1:])
    return mask


def _box(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """top, bottom, left, right (exclusive) of the missing pixels of [1, H, W], which must fill that box."""
    rows, columns = (mask[0] == 0).any(1).nonzero().flatten(), (mask[0] == 0).any(0).nonzero().flatten()
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    assert (mask[0] == 0).sum() == (bottom - top) * (right - left)
    return top, bottom, left, right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("margin", [None, 0, 1])
def test_box_has_half_of_each_side_and_respects_the_margin(shape: Shape, margin: int | None):
    default = {28: 2, 32: 2, 20: 1, 33: 2, 8: 1, 7: 0, 5: 0}  # 1/16 of the side
    for mask in _masks(BoxMask(margin=margin), shape, range(60)):
        top, bottom, left, right = _box(mask)
        assert (bottom - top, right - left) == (shape[1] // 2, shape[2] // 2)
        for first, last, side in ((top, bottom, shape[1]), (left, right, shape[2])):
            least = default[side] if margin is None else margin
            assert first >= least and side - last >= least


def test_box_reaches_every_place_within_the_margin():
    """28 pixels, box 14, margin 2: tops 2..12, both ends included, evenly."""
    tops = [_box(mask)[0] for mask in _masks(BoxMask(size=14, margin=2), (1, 28, 28), range(2200))]
    counts = np.bincount(tops, minlength=15)
    assert counts[:2].sum() == 0 and counts[13:].sum() == 0
    assert counts[2:13].min() > 140 and counts[2:13].max() < 260  # 200 +- 4 sigma, sigma = 13.5


def test_box_sizes_and_center():
    assert _box(_masks(BoxMask(height=3, width=6, margin=1), (3, 9, 16), [5])[0])[1::2][0] >= 3
    top, bottom, left, right = _box(_masks(BoxMask(height=3, width=6, place="center"), (3, 9, 16), [5])[0])
    assert (top, bottom, left, right) == (3, 6, 5, 11)
    assert _box(_masks(BoxMask(place="center"), (1, 28, 28), [1])[0]) == (7, 21, 7, 21)
    assert _box(_masks(BoxMask(size=8), (1, 8, 8), [0])[0]) == (0, 8, 0, 8)
    given = BoxMask(height=3, width=6, top=0, left=10)
    assert [_box(mask) for mask in _masks(given, (3, 9, 16), range(3))] == [(0, 3, 10, 16)] * 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("removed", [0.0, 0.3, 0.5, 0.7, 0.92, 1.0])
def test_random_mask_removes_the_exact_fraction(shape: Shape, removed: float):
    masks = _masks(RandomMask(removed=removed), shape, range(5))
    assert ((masks == 0).flatten(1).sum(1) == round(removed * shape[1] * shape[2])).all()


def test_random_mask_is_uniform_over_pixels():
    share = (_masks(RandomMask(removed=0.7), (1, 8, 8), range(3000)) == 0).double().mean(0)
    assert (share - 45 / 64).abs().max() < 4.5 * (0.7 * 0.3 / 3000) ** 0.5


@pytest.mark.parametrize("degradation", [BoxMask(), RandomMask(removed=0.5)])
def test_masks_are_functions_of_seed_and_index(degradation: Degradation):
    shape = (3, 28, 28)
    together = _masks(degradation, shape, [4, 9, 2, 7])
    assert torch.equal(together.flip(0), _masks(degradation, shape, [7, 2, 9, 4]))
    assert torch.equal(together[1:2], _masks(degradation, shape, [9]))
    many = _masks(degradation, shape, range(40))
    assert len({tuple(mask.flatten().tolist()) for mask in many}) > 20  # places vary with the index
    assert not torch.equal(many, _masks(degradation, shape, range(40), seed=1))  # and with the seed
    state = torch.get_rng_state()
    _masks(degradation, shape, [0])
    assert torch.equal(state, torch.get_rng_state())


def test_channels_share_the_mask_and_missing_is_mid_grey():
    operator = RandomMask(removed=0.5).operator_for((3, 8, 8), [0, 1], RandomStreams(0))
    y = operator(torch.ones(2, 3, 8, 8))
    assert torch.equal(y, operator.mask.expand(-1, 3, -1, -1)) and set(y.unique().tolist()) == {0.0, 1.0}


def test_given_mask(tmp_path: Path):
    pixels = np.full((9, 15), 255, dtype=np.uint8)
    pixels[2:5, 3:9] = 0
    pixels[0, 0], pixels[0, 1] = 127, 128
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    operator = GivenMask(path=str(tmp_path / "mask.png")).operator_for((3, 9, 15), [0, 1], RandomStreams(0))
    assert torch.equal(operator.mask[0, 0], torch.from_numpy((pixels >= 128).astype(np.float32)))
    assert operator(torch.ones(2, 3, 9, 15)).shape == (2, 3, 9, 15)
    assert "mask.png" in operator.description
    for mode in ("1", "RGB", "RGBA", "P"):
        Image.fromarray(pixels).convert(mode, dither=Image.Dither.NONE).save(tmp_path / f"{mode}.png")
        again = GivenMask(path=str(tmp_path / f"{mode}.png")).operator_for((1, 9, 15), [0], RandomStreams(0))
        assert torch.equal(again.mask[0, 0, 1:], operator.mask[0, 0, 1:]), mode


def test_given_mask_refuses(tmp_path: Path):
    with pytest.raises(UserError, match="is not a file"):
        GivenMask(path=str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        GivenMask(path=str(tmp_path / "text.png"))
    Image.fromarray(np.ones((4, 4), dtype=np.uint8)).save(tmp_path / "ones.png")  # 0 and 1 instead of 0 and 255
    with pytest.raises(UserError, match="no white pixel"):
        GivenMask(path=str(tmp_path / "ones.png"))
    Image.fromarray(np.where(np.eye(4, 6), 0, 255).astype(np.uint8)).save(tmp_path / "holes.png")
    with pytest.raises(UserError, match=r"6x4.*32x28"):
        GivenMask(path=str(tmp_path / "holes.png")).operator_for((1, 28, 32), [0], RandomStreams(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 4, "height": 4, "width": 4}, "either size or height and width"),
        ({"height": 4}, "given together"),
        ({"margin": -1}, "margin must be at least 0"),
        ({"place": "middle"}, "'random' or 'center'"),
        ({"top": 3}, "top and left are given together"),
        ({"top": 3, "left": 3, "place": "center"}, "instead of margin and place"),
        ({"top": -1, "left": 3}, "top must be at least 0"),
    ],
)
def test_box_refuses_options(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        BoxMask(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 29}, "at most 28"),
        ({"size": 20, "margin": 5}, "at most 4"),
        ({"size": 20, "top": 9, "left": 0}, "begin at 8 at most"),
    ],
)
def test_box_refuses_what_does_not_fit(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        BoxMask(**options).operator_for((1, 28, 28), [0], RandomStreams(0))


@pytest.mark.parametrize("removed", [-0.1, 1.01, 92, float("nan")])
def test_random_mask_refuses(removed: float):
    with pytest.raises(UserError, match="between 0 and 1"):
        RandomMask(removed=removed)


def test_mask_operator_refuses():
    with pytest.raises(ValueError, match="shape"):
        Mask(torch.ones(2, 3, 8, 8), channels=3)
    with pytest.raises(ValueError, match="only 0"):
        Mask(torch.full((8, 8), 0.5), channels=1)


def test_a_mask_of_16_bits_is_split_in_the_middle(tmp_path):
    levels = np.array([[0, 200, 32767], [32768, 40000, 65535], [0, 300, 65000], [65535, 65535, 0]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    operator = GivenMask(path=str(tmp_path / "deep.png")).bind({}, (1, 4, 3))
    assert operator.mask[0, 0].tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0]]


def test_place_is_checked_by_its_type():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--task", type=Degradation)
    with pytest.raises(jsonargparse.ArgumentError):
        parser.parse_object({"task": {"class_path": "degradations.box_mask.BoxMask", "init_args": {"place": "left"}}})
