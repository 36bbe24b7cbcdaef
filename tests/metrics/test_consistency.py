import pytest
import torch

from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from metrics.consistency import Consistency


@pytest.mark.parametrize("degradation", [Identity(), RandomMask(removed=0.7)])
def test_the_truth_lies_at_sigma_where_something_was_measured(degradation):
    pixels = torch.randint(0, 256, (2, 1, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    random = RandomStreams(0)
    measurement = measure(
        to_float(pixels), degradation=degradation, noise=GaussianNoise(sigma=0.1), index=[0, 1], random=random
    )
    assert Consistency()(pixels, pixels, measurement).tolist() == pytest.approx([0.1, 0.1], rel=0.03)


def test_nothing_measured_is_missing():
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    nothing = RandomMask(removed=1.0)
    measurement = measure(
        to_float(pixels), degradation=nothing, noise=GaussianNoise(sigma=0), index=[0], random=RandomStreams(0)
    )
    assert Consistency()(pixels, pixels, measurement).isnan().all()
