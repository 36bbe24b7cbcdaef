"""Precision, density and reached truths of the samples of one measurement, by hand."""

import pytest
import torch
from torch import Tensor

from metrics.base import Missing
from metrics.features import FeatureNetwork, Features
from metrics.precision_of_samples import PrecisionOfSamples, RealImages


class Levels(FeatureNetwork):
    """The grey level of an image of one pixel."""

    name, fingerprint, dimension = "levels", "0", 1

    def check(self, shape: tuple[int, int, int]) -> None:
        pass

    def to(self, device: torch.device) -> "Levels":
        return self

    def of(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float())


class Real(RealImages):
    """At 0, 10, 20, ... 90."""

    def __init__(self, many: int = 10) -> None:
        self.many = many

    def count(self) -> int:
        return self.many

    def features(self, network: FeatureNetwork, count: int) -> Tensor:
        return 10.0 * torch.arange(min(count, self.many))[:, None]


def values(samples: list[int], truth: int, **options) -> list[float]:
    metric = PrecisionOfSamples(features=Levels(), reference=Real(), **options)
    given = torch.tensor(samples, dtype=torch.uint8).view(1, -1, 1, 1, 1)
    return metric(given, torch.tensor([[[[truth]]]], dtype=torch.uint8), None)[0].tolist()


def test_by_hand():
    """With one neighbour every ball has the radius 10. 5 lies in those of 0 and 10; 100 in that of 90, 101 in none;
    20 in its own and two more. The truth 33 has the radius 3, to 30.
    """
    assert values([5, 101], 33, neighbours=1) == [0.5, 1.0, 0.0]
    assert values([100, 100, 20, 101], 33, neighbours=1) == [0.75, 1.25, 0.0]
    assert values([101, 36], 33, neighbours=1)[2] == 1.0 and values([101, 37], 33, neighbours=1)[2] == 0.0
    # With two neighbours those in the middle keep 10, the ends have 20, and density is by half.
    assert values([109, 111], 33, neighbours=2) == [0.5, 0.25, 0.0]
    assert values([101, 40], 33, neighbours=2)[2] == 1.0


def test_real_ones_are_drawn_from_their_first_rows():
    assert values([50, 50], 33, neighbours=1, reference_images=4) == [0.0, 0.0, 0.0]


def test_what_it_refuses():
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        PrecisionOfSamples(features=Levels(), reference=Real(), neighbours=0)
    with pytest.raises(Missing, match="needs at least 5 real images, there are 3"):
        PrecisionOfSamples(features=Levels(), reference=Real(3)).check((1, 1, 1))
