"""Level map: what the battery cannot know of it."""

import pytest
import torch
from helpers import tiny_denoiser
from torch import Tensor, nn

from common.random_streams import RandomStreams
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from restoration.base import Unsupported
from restoration.diversity import Diversity
from restoration.level_map import LevelMap

SHAPE = (1, 8, 8)
PRIOR = tiny_denoiser(SHAPE).requires_grad_(False)


def measured(sigma: float) -> Measurement:
    x = RandomStreams(7).uniform("images", 0, 0, (2, *SHAPE)) * 1.8 - 0.9
    noise = GaussianNoise(sigma=sigma)
    return measure(x, degradation=BoxMask(size=4), noise=noise, index=[0, 1], random=RandomStreams(3))


class Asked(nn.Module):
    """Keeps the maps of time that it is asked at."""

    takes_maps = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.times = network, []

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self.times.append(time)
        return self.network(x, time, label)


def test_pixels_are_asked_at_their_own_levels():
    """Missing ones at the chain's; known ones at the level of x and y together, at most that of the noise."""
    prior = tiny_denoiser(SHAPE).requires_grad_(False)
    prior.network = asked = Asked(prior.network)
    m = measured(0.2)
    method = LevelMap(prior=prior, steps=3)
    method.restore(m, random=RandomStreams(5))
    known = m.operator.mask > 0
    for time, sigma in zip(asked.times, method.levels(), strict=False):
        level = prior.schedule.sigma_of(time.double())
        assert level[known].amax() - level[known].amin() < 1e-6
        assert float(level[known][0]) == pytest.approx((sigma**-2 + 0.2**-2) ** -0.5, rel=1e-3)
        assert float(level[~known][0]) == pytest.approx(sigma, rel=1e-3)


def test_known_pixels_are_those_of_y_where_it_has_no_noise():
    """Within the prior's least level, which is the most that its estimate moves them, up to the clipping."""
    m = measured(0.0)
    samples = LevelMap(prior=PRIOR, steps=5).restore(m, num_samples=2, random=RandomStreams(5)).samples
    known = m.operator.mask.bool()
    for k in range(2):
        assert float((samples[:, k][known] - m.y[known]).abs().max()) < 8 * PRIOR.sigma_min


def test_samples_can_be_pushed_apart():
    inner = {"class_path": "restoration.level_map.LevelMap", "init_args": {"steps": 5}}
    plain, pushed = (
        Diversity(prior=PRIOR, inner=inner, strength=strength).restore(
            measured(0.1), num_samples=3, random=RandomStreams(5)
        )
        for strength in (0.0, 1.0)
    )
    gaps = [float(torch.cdist(r.samples.flatten(2), r.samples.flatten(2)).sum()) for r in (plain, pushed)]
    assert gaps[1] > 1.02 * gaps[0]


def test_a_prior_of_one_level_an_image_is_refused():
    class Single(nn.Module):
        takes_maps = False

        def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
            return x

    prior = tiny_denoiser(SHAPE)
    prior.network = Single()
    m = measured(0.1)
    with pytest.raises(Unsupported, match="a level for every pixel"):
        LevelMap(prior=prior).check(m.operator, m.noise)
    for least in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="least_sigma_255 must be positive and finite"):
            LevelMap(prior=PRIOR, least_sigma_255=least)
