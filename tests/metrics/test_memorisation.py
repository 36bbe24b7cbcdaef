"""Copies of training images: closed forms and a direct count."""

import pytest
import torch
from metric_toys import Quadrants

from metrics.base import Missing
from metrics.features import Features
from metrics.memorisation import AuthenticShare, MemorisedShare, TrainingDistanceRatio, distance_ratio
from metrics.neighbours import nearest

CLASSES = (TrainingDistanceRatio, MemorisedShare, AuthenticShare)


def rows(N: int, seed: int, d: int = 8) -> torch.Tensor:
    return 3 + torch.randn(N, d, generator=torch.Generator().manual_seed(seed))


def of(cls, generated, training, **options):
    return cls(features=Quadrants(), **options).compute(Features(generated), Features(training))


def directly(y, x):
    """By loops, in the words of the papers."""
    ratios, authentic = [], []
    for row in y.double():
        distances = (x.double() - row).norm(dim=1)
        first, second = distances.sort().values[:2].tolist()
        ratios.append(first / second)
        i = int(distances.argmin())
        around = (x.double() - x[i].double()).norm(dim=1)
        around[i] = torch.inf
        authentic.append(float(first > float(around.min())))
    return torch.tensor(ratios), torch.tensor(authentic)


def test_equal_to_a_direct_count():
    y, x = rows(60, 0), rows(1500, 1)  # more rows than are there at a time
    ratios, authentic = directly(y, x)
    assert of(TrainingDistanceRatio, y, x).value == pytest.approx(float(ratios.double().mean()), rel=1e-6)
    assert of(MemorisedShare, y, x, threshold=0.9).value == pytest.approx(float((ratios < 0.9).double().mean()))
    assert of(AuthenticShare, y, x).value == pytest.approx(float(authentic.mean()))


def test_copies_and_new_images():
    x = rows(400, 1)
    new, copies = rows(200, 2), x[:200]
    near = copies + 1e-4
    mixed = torch.cat([new[:150], near[:50]])[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    assert [of(cls, copies, x).value for cls in CLASSES] == [0, 1, 0]
    assert of(MemorisedShare, near, x).value == 1 and of(AuthenticShare, near, x).value == 0
    assert of(MemorisedShare, new, x).value == 0 and 0.8 < of(TrainingDistanceRatio, new, x).value < 1
    assert 0.3 < of(AuthenticShare, new, x).value < 0.8
    found = of(MemorisedShare, mixed, x)
    assert found.value == 0.25 and 0 < found.low < 0.25 < found.high < 0.5


def test_duplicates_in_the_training_set():
    """A copy of an image that is there twice has 0 / 0, which is a copy."""
    x = rows(50, 1)
    assert distance_ratio(x[:3].double(), torch.cat([x, x]).double()).tolist() == [0, 0, 0]
    distances, found = nearest(x.double(), x.double(), 1, leave=torch.arange(50))
    assert float(distances.min()) > 0 and (found[:, 0] != torch.arange(50)).all()


def test_of_restored_images_there_is_none():
    x = Features(rows(30, 1))
    for cls in CLASSES:
        with pytest.raises(Missing, match="not of restored images"):
            cls(features=Quadrants()).compute(x, x, paired=True)
        with pytest.raises(Missing, match="at least 3 training images, there are 2"):
            cls(features=Quadrants()).compute(x, Features(rows(2, 0)))
        assert cls.reference_split == "train"
    with pytest.raises(ValueError, match="threshold must lie between 0 and 1, got 1"):
        MemorisedShare(features=Quadrants(), threshold=1)
