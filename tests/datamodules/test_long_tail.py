"""Long-tailed sets: how many images of each class are left, and which."""

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from datamodules.digits import Digits
from datamodules.long_tail import long_tailed_rows
from datamodules.reweighting import Reweighting


def labels(count: int) -> Tensor:
    return torch.arange(10).repeat(count)[torch.randperm(10 * count, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (5000, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),  # CIFAR-10, 12,406 images
        (6000, [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]),  # FashionMNIST, 14,886 images
    ],
)
def test_the_published_counts(count, expected):
    label = labels(count)
    rows = long_tailed_rows(label, 100, 0)
    assert torch.bincount(label[rows]).tolist() == expected and rows.tolist() == sorted(set(rows.tolist()))


def test_a_smaller_ratio_keeps_more_and_a_seed_others():
    label = labels(100)
    few, many = (set(long_tailed_rows(label, ratio, 0).tolist()) for ratio in (20, 5))
    assert few < many and set(long_tailed_rows(label, 20, 1).tolist()) != few
    assert torch.bincount(label[long_tailed_rows(label, 1, 0)]).tolist() == [100] * 10


@pytest.mark.parametrize(
    ("label", "ratio", "words"),
    [
        (labels(50), 0.5, "at least 1"),
        (labels(50), 200, "leaves nothing of class 7.*at most 50"),
        (torch.full((10,), -1), 10, "labelled classes"),
        (torch.zeros(10, dtype=torch.int64), 10, "two labelled classes"),
    ],
)
def test_what_it_refuses(label, ratio, words):
    with pytest.raises(UserError, match=words):
        long_tailed_rows(label, ratio, 0)


def test_as_an_option_of_a_data_set():
    """After the validation images are taken out, which stay as they are; before `limit`."""
    plain, tailed = Digits(validation=50), Digits(validation=50, long_tail=10.0)
    label = tailed.images("train").store.label[tailed.images("train").positions]
    counts = torch.bincount(label).tolist()
    assert counts == sorted(counts, reverse=True) and counts[0] in range(10 * counts[9], 10 * counts[9] + 10)
    assert set(tailed.images("train").positions.tolist()) < set(plain.images("train").positions.tolist())
    assert torch.equal(tailed.images("validation").positions, plain.images("validation").positions)
    assert len(Digits(validation=50, long_tail=10.0, limit=30).images("train")) == 30


def test_with_reweighting_the_rare_are_drawn_as_often():
    data = Digits(validation=0, long_tail=10.0, batch_size=8, reweighting=Reweighting(most=20, least=0.05))
    loader = data.train_dataloader()
    label = data.images("train").store.label[data.images("train").positions]
    drawn = torch.bincount(torch.cat([label[loader.order(e)] for e in range(3)]))
    assert int(drawn.max()) <= 1.2 * int(drawn.min())
