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


class Without(Real):
    """The same without one of them."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def features(self, network: FeatureNetwork, count: int) -> Tensor:
        found = super().features(network, count)
        return found[found[:, 0] != self.level]


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


def test_the_truth_is_not_one_of_the_real_ones():
    """As where the training split itself is restored."""
    with_it = PrecisionOfSamples(features=Levels(), reference=Real(), neighbours=1)
    without = PrecisionOfSamples(features=Levels(), reference=Without(30), neighbours=1)
    given = torch.tensor([28, 30, 41, 19], dtype=torch.uint8).view(1, -1, 1, 1, 1)
    truth = torch.tensor([[[[30]]]], dtype=torch.uint8)
    expected = without(given, truth, None)
    torch.testing.assert_close(with_it(given, truth, None), expected, rtol=0, atol=0)
    two = torch.cat([truth, truth + 3])  # of another truth of the batch it is a real image as all others
    found = with_it(given.expand(2, -1, -1, -1, -1), two, None)
    torch.testing.assert_close(found[:1], expected, rtol=0, atol=0)
    assert found[1].tolist() == values([28, 30, 41, 19], 33, neighbours=1) and found[1, 1] > found[0, 1]


def test_where_all_others_are_copies_of_the_truth_there_is_no_number():
    class Copies(Real):
        def features(self, network: FeatureNetwork, count: int) -> Tensor:
            return torch.tensor([30.0, 30.0, 30.0, 50.0])[:, None]

    metric = PrecisionOfSamples(features=Levels(), reference=Copies(), neighbours=1)
    pixels = torch.full((1, 2, 1, 1, 1), 30, dtype=torch.uint8)
    assert metric(pixels, pixels[:, 0], None).isnan().all()


def test_what_it_refuses():
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        PrecisionOfSamples(features=Levels(), reference=Real(), neighbours=0)
    with pytest.raises(Missing, match="needs at least 5 real images, there are 3"):
        PrecisionOfSamples(features=Levels(), reference=Real(3)).check((1, 1, 1))
