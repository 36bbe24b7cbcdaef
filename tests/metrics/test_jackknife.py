"""The jackknife: how many images it needs, and what it leaves out."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import t

from metrics.fid import fid, fid_of_pairs, frechet_distance
from metrics.jackknife import LEAST_FOR_INTERVAL, Estimate, blocks_of, bounded, difference, jackknife
from metrics.kid import kid, kid_of_pairs
from metrics.moments import Moments
from metrics.set_diversity import set_diversity


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(features: torch.Tensor, reference: Moments) -> tuple[float, float]:
    """FID and half of the interval that a jackknife gives it, of however few images."""
    parts = blocks_of(features, 20)
    left_out = [frechet_distance(Moments.of(torch.cat([q for q in parts if q is not p])), reference) for p in parts]
    K = len(parts)
    half = float(t.ppf(0.975, K - 1) * math.sqrt(K - 1) * np.std(left_out))
    return frechet_distance(Moments.of(features), reference), half


@pytest.mark.parametrize(("n", "least", "most"), [(5, 5, 20), (8, 1.5, 2.2), (20, 1.0, 1.5), (40, 1.0, 1.4)])
def test_what_a_jackknife_can_bear(n, least, most):
    """Half of the interval of FID over 1.96 standard deviations of FID: 10 at 5 images, 1.8 at 8, 1.3 from 20 on, where
    it holds the mean of all sets of its size in 95 to 98 %.
    """
    reference = Moments.of(normal(1000, 8, 0))
    found = [by_hand(normal(n, 8, seed) + 0.3, reference) for seed in range(1, 121)]
    value, half = np.array(found).T
    assert least < half.mean() / (1.96 * value.std()) < most
    assert n < LEAST_FOR_INTERVAL or np.mean(abs(value - value.mean()) <= half) > 0.92
    seen = fid(normal(n, 8, 1) + 0.3, reference)
    assert seen.value == pytest.approx(value[0])
    if n < LEAST_FOR_INTERVAL:
        assert math.isnan(seen.low) and math.isnan(seen.high) and not seen.left_out
    else:
        assert (seen.low, seen.high) == pytest.approx((value[0] - half[0], value[0] + half[0]))


@pytest.mark.parametrize(
    "distance",
    [
        lambda x, y: fid(x, Moments.of(y)),
        kid,
        fid_of_pairs,
        kid_of_pairs,
        lambda x, y: set_diversity((x - x.min()).byte().view(len(x), 1, 1, -1), x).pixel_rmse,
        lambda x, y: set_diversity((x - x.min()).byte().view(len(x), 1, 1, -1), x).feature_distance,
    ],
)
def test_no_interval_of_a_distance_goes_below_0_or_is_of_few_images(distance):
    for n in (5, 8, 19, 20, 30):
        for seed in range(8):
            found = distance(normal(n, 3, seed), normal(n, 3, seed + 100))
            assert math.isfinite(found.value)
            if n < 20:
                assert math.isnan(found.low) and math.isnan(found.high)
            else:
                assert 0 <= found.low <= found.high and max(0, found.value) <= found.high


def test_an_unbiased_distance_of_0_may_be_below_it_and_its_interval_holds_0():
    """Two sets of one distribution: half of the values are negative, and the interval holds 0 as it did unbounded."""
    found = [kid(normal(40, 4, seed), normal(60, 4, seed + 500)) for seed in range(60)]
    assert 18 < sum(e.value < 0 for e in found) < 45
    assert min(e.low for e in found) == 0 and sum(e.low == 0 for e in found) >= 54


def test_differences_of_distances_may_be_negative():
    a, b = (fid(scale * normal(60, 4, 1), Moments.of(normal(60, 4, 0))) for scale in (1.0, 2.0))
    found = difference(a, b)
    assert found.low < found.value < found.high < 0
    assert difference(b, a).low == pytest.approx(-found.high)


def test_the_equation():
    found = jackknife(2.0, [1.0, 2.0, 4.0], images=60)
    half = t.ppf(0.975, 2) * math.sqrt(2 / 3 * ((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2))
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert jackknife(2.0, [1.0, 2.0, 4.0], images=60, lowest=0.0).low == 0
    few = jackknife(2.0, [1.0, 2.0, 4.0], images=19)
    assert few.value == 2 and math.isnan(few.low) and math.isnan(few.high) and few.left_out == ()


def test_ends_that_were_stored_keep_to_the_bounds():
    assert bounded(Estimate(3.0, -21.0, 27.0), 40, lowest=0.0) == Estimate(3.0, 0.0, 27.0)
    assert math.isnan(bounded(Estimate(3.0, -21.0, 27.0), 5, lowest=0.0).low)
    assert bounded(Estimate(-0.2, -0.3, -0.1), 40, lowest=0.0) == Estimate(-0.2, 0.0, 0.0)
