"""Coverage of classes, and cosines of a set, by hand."""

import pytest
import torch
from metric_toys import Quadrants

from metrics.base import Missing
from metrics.coverage_of_classes import CoverageOfClasses
from metrics.features import Features
from metrics.pairwise_cosine import PairwiseCosineOfSet, pairwise_cosine
from metrics.precision_recall import coverage


def features(x: list[float], of_class: list[int] | None = None) -> Features:
    rows = torch.tensor(x)[:, None]
    return Features(rows, None if of_class is None else torch.nn.functional.one_hot(torch.tensor(of_class), 3).float())


def test_only_the_real_images_of_a_class_count():
    """Of class 1 the first half is reached; balls end at others of the class, whatever lies between."""
    real = features([0.0, 10, 20, 30, 100, 110, 120, 130, 5, 15], [1] * 8 + [0, 2])
    found = features([float(k) for k in range(14)])
    values = [
        CoverageOfClasses(features=Quadrants(), classes=c, neighbours=1).compute(found, real).value
        for c in ([1], [0, 1], [0, 1, 2])
    ]
    assert values[0] == 3 / 8  # within 10 of 0, 10 and 20
    assert values[1] == coverage(found.features, real.features[:9], neighbours=1).value == 4 / 9
    assert values[2] == coverage(found.features, real.features, neighbours=1).value


def test_what_has_no_number():
    metric = CoverageOfClasses(features=Quadrants(), classes=[3], neighbours=1)
    found = features([float(k) for k in range(14)])
    for reference, words in (
        (features([0.0, 1.0]), "no probabilities"),
        (features([0.0, 1.0], [0, 1]), r"classes 0 \.\. 2, not 3"),
    ):
        with pytest.raises(Missing, match=words):
            metric.compute(found, reference)
    with pytest.raises(Missing, match="needs at least 2 images of the reference, there are 1"):
        CoverageOfClasses(features=Quadrants(), classes=[1], neighbours=1).compute(found, features([0.0, 1.0], [0, 1]))
    for classes in ([], [-1], [2, 2]):
        with pytest.raises(ValueError, match="classes must be one or more different numbers"):
            CoverageOfClasses(features=Quadrants(), classes=classes)


def test_cosine_of_a_set_is_that_of_its_pairs():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = PairwiseCosineOfSet(features=Quadrants()).compute(Features(rows), Features(rows))
    assert found.value == pytest.approx(float(pairwise_cosine(rows[None])[0]), rel=1e-6)
