"""Masks whose shape is drawn too: ranges, what is missing, and masks that were stored."""

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Shape
from degradations.box_mask import BoxMask
from degradations.random_mask import RandomMask
from degradations.spot_mask import SpotMask
from degradations.stored_masks import StoredMasks, read_masks, write_masks
from degradations.stripe_mask import StripeMask


def missing(degradation: Degradation, shape: Shape = (1, 28, 28), count: int = 400, seed: int = 0) -> Tensor:
    """float64 [count, H, W]."""
    mask = degradation.operator_for(shape, list(range(count)), RandomStreams(seed)).mask
    assert mask is not None
    return 1 - mask[:, 0].double()


def test_boxes_of_several_sizes():
    """All sides of the range, evenly, and square."""
    found = missing(BoxMask(size=7, most=14))
    sides = found.amax(2).sum(1)
    assert torch.equal(sides, found.amax(1).sum(1)) and torch.equal(sides.square(), found.sum((1, 2)))
    counts = np.bincount(sides.long().numpy(), minlength=15)
    assert counts[:7].sum() == 0 and counts[7:].min() > 25 and len(counts) == 15


def test_shares_of_several_sizes():
    share = missing(RandomMask(removed=0.5, most=0.95)).mean((1, 2))
    assert 0.499 <= float(share.min()) < 0.52 and 0.93 < float(share.max()) <= 0.951
    assert float(share.mean()) == pytest.approx(0.725, abs=0.02)


def test_stripes():
    found = missing(StripeMask())
    rows = found.std(2).amax(1) == 0  # all pixels of each line are alike
    columns = found.std(1).amax(1) == 0
    assert bool((rows ^ columns).all()) and 0.4 < float(rows.double().mean()) < 0.6
    first = torch.where(rows[:, None], found[:, :, 0], found[:, 0, :])
    periods = [next(p for p in range(2, 9) if torch.equal(line[p:], line[:-p])) for line in first]
    assert set(periods) == set(range(2, 9))
    lost = torch.stack([line[:p].sum() / p for line, p in zip(first, periods, strict=True)])
    assert float((lost - 0.5).abs().max()) <= 0.5 / 3 + 1e-9  # of three lines one or two
    narrow = missing(StripeMask(least=4, most=4, missing=0.01, lines="columns"), (3, 9, 5))
    assert set(narrow.sum((1, 2)).tolist()) == {9.0, 18.0}  # one of four columns, at one or two places in five


def test_spots():
    """A disc of radius s sqrt(2 log 2) in the middle of an image has its area; soft ones fade from 1."""
    found = missing(SpotMask(least=0.2, most=0.2), (1, 64, 64))
    area = np.pi * (0.2 * 64) ** 2 * 2 * np.log(2)
    whole = found.sum((1, 2))[found[:, [0, -1]].sum((1, 2)) + found[:, :, [0, -1]].sum((1, 2)) == 0]
    assert len(whole) > 40 and float((whole / area - 1).abs().max()) < 0.02
    inner = found.mean(0)
    assert float(inner.min()) > 0.02  # it falls everywhere
    soft = SpotMask(soft=True).operator_for((3, 28, 28), list(range(50)), RandomStreams(0))
    hard = missing(SpotMask(), count=50)
    weight = soft(torch.ones(50, 3, 28, 28))[:, 0].double()
    assert soft.mask is None and torch.equal((weight < 0.5).double(), hard) and 0 <= float(weight.min()) < 0.1


def test_stored_masks_are_those_of_the_index(tmp_path):
    known = torch.rand(4, 9, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    index = torch.tensor([7, 3, 11, 0])
    write_masks(tmp_path / "masks.npz", index, known)
    written = (tmp_path / "masks.npz").read_bytes()
    write_masks(tmp_path / "masks.npz", index, known)
    assert (tmp_path / "masks.npz").read_bytes() == written  # its hash says what is in it
    again = read_masks(str(tmp_path / "masks.npz"))
    assert torch.equal(again[0], index) and torch.equal(again[1], known)
    degradation = StoredMasks(path=str(tmp_path / "masks.npz"))
    mask = degradation.operator_for((3, 9, 5), [11, 7], RandomStreams(1)).mask
    assert mask is not None and torch.equal(mask[:, 0].bool(), known[[2, 0]])
    for shape, wanted, words in (
        ((3, 9, 6), 3, "have 9x5 pixels, the images 9x6"),
        ((3, 9, 5), 4, "none for the image with index 4"),
    ):
        with pytest.raises(UserError, match=words):
            degradation.operator_for(shape, [wanted], RandomStreams(0))


def test_a_file_of_too_few_bytes_is_no_file_of_masks(tmp_path):
    """Its last rows would read as missing."""
    path = tmp_path / "short.npz"
    np.savez(path, index=np.arange(2), shape=np.array([9, 5]), known=np.zeros((2, 5), dtype=np.uint8))
    with pytest.raises(UserError, match="is no file of masks"):
        StoredMasks(path=str(path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_a_torn_file_of_masks_is_named(content, tmp_path):
    (tmp_path / "torn.npz").write_bytes(content)
    with pytest.raises(UserError, match="is no file of masks"):
        StoredMasks(path=str(tmp_path / "torn.npz"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BoxMask(most=5), "most is given together with size"),
        (lambda: BoxMask(size=6, most=5), "which it is not below"),
        (lambda: missing(BoxMask(size=6, most=30), (1, 28, 28)), "most must be at most 28 for a 28x28 picture"),
        (lambda: RandomMask(removed=0.5, most=0.4), r"between removed=0\.5 and 1, got 0\.4"),
        (lambda: StripeMask(least=1), "least must be at least 2"),
        (lambda: StripeMask(missing=1.0), "missing must be a share"),
        (lambda: StripeMask(lines="diagonal"), "lines must be one of"),
        (lambda: missing(StripeMask(), (1, 28, 7)), "up to 8 lines need as many, the images have 28x7"),
        (lambda: SpotMask(least=0.0), "least must be positive"),
        (lambda: StoredMasks(path="none.npz"), "no file of masks 'none.npz'"),
        (lambda: StoredMasks(path=__file__), "is no file of masks"),
    ],
)
def test_what_they_refuse(make, words):
    with pytest.raises(UserError, match=words):
        make()
