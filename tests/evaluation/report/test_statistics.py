import math

import numpy as np
import pytest

from evaluation.report.statistics import bootstrap, bootstrap_means, paired_difference


def test_interval_of_a_mean_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(20, 3, 400)
    found = bootstrap(values, seed=0)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert found.n == 400


def test_covers_the_truth_as_often_as_it_says():
    """400 sets of 50 images: 95 % intervals hold the true mean in 93-95 % of them; 3 standard errors of the count are
    3.3 %.
    """
    draws = np.random.default_rng(1).exponential(1.0, (400, 50))
    held = [v.low <= 1 <= v.high for v in (bootstrap(d, seed=0) for d in draws[:400])]
    assert 0.89 < np.mean(held) < 0.98


def test_equal_seeds_equal_intervals_and_missing_values_are_left_out():
    values = [1.0, 2.0, math.nan, 4.0]
    assert bootstrap(values, seed=3) == bootstrap([1.0, 2.0, 4.0], seed=3)
    assert bootstrap(values, seed=3).n == 3


def test_too_few_images():
    one, none = bootstrap([5.0], seed=0), bootstrap([math.nan], seed=0)
    assert one.mean == 5 and math.isnan(one.low) and one.n == 1
    assert math.isnan(none.mean) and none.n == 0


def test_ratio_and_paired_difference():
    x = np.random.default_rng(0).uniform(1, 2, 100)
    ratio = bootstrap_means([2 * x, x], lambda means: means[0] / means[1], seed=0)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2, 2, 2))  # resampled together: no variance at all
    paired = paired_difference(x + 0.1, x, seed=0)
    assert (paired.low, paired.high) == pytest.approx((0.1, 0.1))
