"""The mean of training images: of the training part alone, rounded nowhere, refused for images of another size."""

import pytest
import torch

from common.image_range import to_float
from common.random_streams import RandomStreams
from datamodules.digits import Digits
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from restoration.base import Unsupported
from restoration.training_mean import TrainingMean


def measured(side: int) -> Measurement:
    x = torch.zeros(2, 1, side, side)
    return measure(x, degradation=BoxMask(size=2), noise=GaussianNoise(sigma=0), index=[0, 1], random=RandomStreams(0))


def test_it_is_the_mean_of_the_first_training_images_whatever_was_measured():
    data = Digits()
    first = to_float(data.images("train").get(range(300)).image).double().mean(0).float()
    method = TrainingMean(data="datamodules.digits.Digits", images=300)
    restored = method.restore(measured(8), num_samples=3, random=RandomStreams(0)).samples
    torch.testing.assert_close(restored, first.expand(2, 1, 1, 8, 8), atol=1e-6, rtol=0)
    everything = TrainingMean(data={"class_path": "datamodules.digits.Digits", "init_args": {}}, images=10**6).mean()
    train = to_float(data.images("train").get(range(len(data.images("train")))).image).double().mean(0).float()
    torch.testing.assert_close(everything, train, atol=1e-6, rtol=0)


def test_images_of_another_size_are_refused_before_any_is_read():
    method = TrainingMean(data="datamodules.digits.Digits")
    with pytest.raises(Unsupported, match=r"of datamodules.digits.Digits are 1x8x8, those to restore 1x9x9"):
        method.check(measured(9).operator, measured(9).noise)
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        TrainingMean(data="datamodules.digits.Digits", images=0)
