"""Blurriness over sharpness that has settled."""

import math

import pytest
import torch
from stopping_worlds import measured, pictures
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.noise import GaussianNoise
from restoration.base import Unsupported
from restoration.stopping.spectral_bias import SpectralBias, crete_blurriness, grey, mlv_sharpness


def blurriness_by_hand(image: Tensor) -> float:
    """The sums of Crete et al., pixel by pixel, in both directions."""
    found = []
    for v in (image, image.T):
        rows, columns = v.shape
        total = lost = 0.0
        for r in range(4, rows - 4):
            blurred = [float(v[r, c - 4 : c + 5].sum()) / 9 for c in range(4, columns - 4)]
            for k in range(len(blurred) - 1):
                sharp = abs(float(v[r, k + 5] - v[r, k + 4]))
                total += sharp
                lost += max(0.0, sharp - abs(blurred[k + 1] - blurred[k]))
        found.append((total - lost) / total)
    return max(found)


def sharpness_by_hand(image: Tensor) -> float:
    rows, columns = image.shape
    rises = []
    for r in range(1, rows - 1):
        for c in range(1, columns - 1):
            rises.append(max(float(image[r + a, c + b] - image[r, c]) for a in (-1, 0, 1) for b in (-1, 0, 1)))
    weighted = [m * math.exp(-0.01 * rank) for rank, m in enumerate(sorted(rises, reverse=True)[:1000], start=1)]
    return math.sqrt(sum(w * w for w in weighted) / len(weighted))


def test_both_measures_against_loops():
    images = (pictures(2, size=20)[:, 0] + 1) / 2
    images[1] = RandomStreams(0).uniform("noise", 0, 0, (20, 20))
    blur, sharp = crete_blurriness(images), mlv_sharpness(images)
    for b in range(2):
        assert float(blur[b]) == pytest.approx(blurriness_by_hand(images[b]), rel=1e-10)
        assert float(sharp[b]) == pytest.approx(sharpness_by_hand(images[b]), rel=1e-10)


def test_only_the_thousand_strongest_rises_count():
    image = RandomStreams(0).uniform("noise", 0, 0, (1, 40, 40)).double()
    assert float(mlv_sharpness(image)[0]) == pytest.approx(sharpness_by_hand(image[0]), rel=1e-10)


def test_what_blurring_does():
    """A step wider than the box keeps its differences' sum when blurred; white noise loses nearly all of it; a constant
    picture has none to lose.
    """
    step = torch.zeros(1, 32, 32, dtype=torch.float64)
    step[..., 16:] = 1
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 32, 32)
    noise = RandomStreams(0).uniform("noise", 0, 0, (1, 32, 32)).double()
    constant = torch.full((1, 32, 32), 0.5, dtype=torch.float64)
    assert float(crete_blurriness(ramp)) == pytest.approx(1)
    assert float(crete_blurriness(constant)) == 1
    assert float(crete_blurriness(noise)) < 0.2
    assert float(mlv_sharpness(noise)) > 3 * float(mlv_sharpness(ramp)) and float(mlv_sharpness(constant)) == 0
    assert float(mlv_sharpness(step / 2)) == pytest.approx(float(mlv_sharpness(step)) / 2)


def test_grey_is_luma():
    colour = torch.stack([torch.full((4, 4), v, dtype=torch.float64) for v in (0.2, 0.4, 0.8)])[None]
    torch.testing.assert_close(
        grey(colour), torch.full((1, 4, 4), 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.8, dtype=torch.float64)
    )


def test_it_stops_where_two_windows_agree():
    """Pictures that sharpen by a geometric series: the first iteration at which two means differ by less than the
    tolerance, by a plain loop.
    """
    m = measured(pictures(2, size=20), sigma_255=10)
    criterion = SpectralBias(window=6, tolerance=0.01)
    watch = criterion.watch(m, random=RandomStreams(0), iterations=200)
    high = RandomStreams(1).normal("high", 0, 0, (1, 20, 20)).double() / 4
    pace = torch.tensor([0.95, 0.98], dtype=torch.float64).view(-1, 1, 1, 1)
    ratios, stops, improved = [], [], []
    for iteration in range(1, 201):
        output = m.truth + high * (1 - pace**iteration)
        verdict = watch.update(iteration, output, torch.zeros_like(output))
        ratios.append(watch.values["ratio"])
        stops.append(verdict.stop)
        improved.append(verdict.improved)
        assert bool((watch.values["ratio"] == watch.values["blurriness"] / watch.values["sharpness"]).all())
    series = torch.stack(ratios, 1)
    for b in range(2):
        expected = next(
            i
            for i in range(12, 201)
            if abs(float(series[b, i - 6 : i].mean() - series[b, i - 12 : i - 6].mean())) < 0.01
        )
        assert [i for i, s in enumerate(improved, start=1) if s[b]] == [expected] and expected > 12
        assert [bool(s[b]) for s in stops] == [i >= expected for i in range(1, 201)]
    assert "6 iterations" in watch.reason(0)


def test_refusals():
    with pytest.raises(Unsupported, match="16 pixels"):
        SpectralBias().check(Identity().bind({}, (1, 15, 40)), GaussianNoise(sigma_255=5))
    # The picture counts, not the measurement.
    SpectralBias().check(AveragePool(factor=4).bind({}, (1, 16, 16)), GaussianNoise(sigma_255=5))
    for wrong in ({"window": 0}, {"tolerance": 0.0}):
        with pytest.raises(ValueError):
            SpectralBias(**wrong)
