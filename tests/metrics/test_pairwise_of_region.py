"""Distances of samples inside and outside of a hole, by hand."""

import pytest
import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from metrics.features import FeatureNetwork, Features
from metrics.pairwise_of_region import PairwiseFeaturesOfMissing, PairwiseRMSEOfRegion
from metrics.pairwise_rmse import PairwiseRMSE

HALF = torch.tensor([[1.0, 1.0], [0.0, 0.0]])


class Pixels(FeatureNetwork):
    """The pixels themselves."""

    name, fingerprint, dimension = "pixels", "0", 4

    def check(self, shape: tuple[int, int, int]) -> None:
        pass

    def to(self, device: torch.device) -> "Pixels":
        return self

    def of(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float())


def world() -> tuple[Tensor, Tensor, Measurement]:
    """Two samples that differ by 51 grey levels in both measured pixels and by 102 in one of the two missing ones."""
    truth = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    samples = truth[:, None].repeat(1, 2, 1, 1, 1)
    samples[0, 1, 0] = torch.tensor([[151, 151], [202, 100]], dtype=torch.uint8)
    operator = Mask(HALF, channels=1)
    y = torch.zeros(1, 1, 2, 2)
    return samples, truth, Measurement(y=y, operator=operator, noise=GaussianNoise(sigma=0.0), index=(0,))


def test_inside_and_outside_of_the_hole():
    samples, truth, m = world()
    assert float(PairwiseRMSEOfRegion()(samples, truth, m)) == pytest.approx(102 / 127.5 / 2**0.5)
    assert float(PairwiseRMSEOfRegion(region="measured")(samples, truth, m)) == pytest.approx(51 / 127.5)


def test_features_of_what_was_made_up_alone():
    """Of four pixels one still differs, by 102."""
    samples, truth, m = world()
    assert float(PairwiseFeaturesOfMissing(features=Pixels())(samples, truth, m)) == pytest.approx(102 / 2)


def test_a_region_without_pixels_and_what_is_no_mask():
    samples, truth, m = world()
    all_of_it = Measurement(y=m.y, operator=Mask(torch.ones(2, 2), channels=1), noise=m.noise, index=(0,))
    assert float(PairwiseRMSEOfRegion()(samples, truth, all_of_it)) == 0
    same = Identity().operator_for((1, 2, 2), [0], RandomStreams(0))
    denoised = Measurement(y=m.y, operator=same, noise=m.noise, index=(0,))
    whole = float(PairwiseRMSE()(samples, truth, None))
    assert float(PairwiseRMSEOfRegion()(samples, truth, denoised)) == pytest.approx(whole)


def test_it_refuses_another_region():
    with pytest.raises(ValueError, match="region must be missing or measured"):
        PairwiseRMSEOfRegion(region="hole")  # pyright: ignore[reportArgumentType]
