"""Intervals of means: how often they hold the truth, by simulation on normal, lognormal and real rows."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import skew, t
from sklearn.datasets import load_digits

from common.random_streams import RandomStreams
from evaluation.report import statistics, tables
from evaluation.report.statistics import (
    Interval,
    first,
    hall,
    in_words,
    interval_of_means,
    mean_interval,
    paired_difference,
)
from metrics.ssim import SSIM

COUNTS = (4, 5, 8, 12, 20, 49)
SETS = 20_000


def lognormal(scale):
    return lambda generator, shape: np.exp(scale * generator.standard_normal(shape)), math.exp(scale**2 / 2)


def of_digits():
    """Rows of 1797 digits with noise of 0.2 of 1: PSNR after a Gaussian filter, squared error with twelve principal
    components, and how far apart the two are in PSNR.
    """
    x = load_digits().images / 16
    y = np.clip(x + 0.2 * np.random.default_rng(0).standard_normal(x.shape), 0, 1)
    centred = y.reshape(len(y), -1) - y.reshape(len(y), -1).mean(0)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:12]
    components = (centred @ basis.T @ basis).reshape(x.shape) + y.mean(0)
    filtered = np.stack([gaussian_filter(image, 0.6) for image in y])
    errors = [((picture - x) ** 2).mean((1, 2)) for picture in (components, filtered)]
    psnr = [-10 * np.log10(error) for error in errors]
    return {"psnr": psnr[1], "squared error": errors[0], "difference in psnr": psnr[0] - psnr[1]}


def drawn_of(rows):
    """A way to draw images with replacement, and the mean of all."""
    return lambda generator, shape: rows[generator.integers(0, len(rows), shape)], rows.mean()


ROWS = {
    "normal": (lambda generator, shape: generator.standard_normal(shape), 0.0),
    "lognormal, 0.5": lognormal(0.5),
    "lognormal, 1": lognormal(1.0),
} | {name: drawn_of(rows) for name, rows in of_digits().items()}


@pytest.mark.parametrize(
    ("rows", "covered", "students"),
    [
        ("normal", (94.1, 94.4, 95.1, 94.8, 95.0, 94.7), (95.2, 95.1, 95.1, 94.9, 95.1, 94.6)),
        ("psnr", (94.0, 94.2, 94.6, 95.0, 94.9, 94.9), (94.8, 94.8, 94.9, 94.9, 94.9, 94.9)),
        ("squared error", (93.8, 94.2, 94.6, 94.6, 94.9, 94.6), (94.3, 94.1, 94.3, 94.4, 94.6, 94.8)),
        ("difference in psnr", (94.1, 94.0, 94.3, 94.6, 94.6, 94.8), (95.3, 95.0, 95.3, 95.1, 95.0, 94.9)),
        ("lognormal, 0.5", (92.7, 93.0, 94.2, 94.0, 94.3, 94.2), (92.2, 91.6, 92.3, 92.3, 93.0, 93.6)),
        ("lognormal, 1", (88.3, 89.2, 91.3, 91.8, 92.6, 93.0), (82.7, 82.0, 83.4, 85.2, 86.6, 89.8)),
    ],
)
def test_below_50_images_95_percent_is_what_is_covered(rows, covered, students):
    """94 to 96 % where the number is 94 or more: on normal rows, on those of digits (skewness 0.1 to 0.8) but for 93.8
    at 4 images, on lognormal ones from 8 images on where their skewness is 1.75. Where it is 6.2, 88 to 93 %: no
    interval that was tried attains 94 % there. Student's own is narrower and as good on the first four and worse on the
    last two. 20,000 sets each: 3 standard errors are 0.5 %.
    """
    draw, truth = ROWS[rows]
    for n, expected, expected_students in zip(COUNTS, covered, students, strict=True):
        values = draw(np.random.default_rng(n), (SETS, n))
        low, high = hall(values)
        found = 100 * np.mean((low <= truth) & (truth <= high))
        assert found == pytest.approx(expected, abs=0.3), n
        assert expected < 94 or 94 - 0.05 <= found <= 96, n
        half = t.ppf(0.975, n - 1) * values.std(-1, ddof=1) / math.sqrt(n)
        assert 100 * np.mean(abs(values.mean(-1) - truth) <= half) == pytest.approx(expected_students, abs=0.3), n


@pytest.mark.parametrize(("n", "sets", "least"), [(5, 600, 0.92), (8, 600, 0.92), (20, 600, 0.92), (50, 300, 0.89)])
def test_covers_the_truth_as_often_as_it_says(n, sets, least):
    """Normal rows; 3 standard errors are 2.7 %, and 3.8 % at 50 images. The percentile bootstrap, which there is from
    50 on, holds 84, 88, 93 and 94 %.
    """
    draws = np.random.default_rng(n + 1).standard_normal((sets, n))
    held = [v.low <= 0 <= v.high for v in (mean_interval(d, seed=0) for d in draws)]
    assert least < np.mean(held) < 0.98


def test_functions_of_means_are_covered():
    """The root of a mean and the ratio of two, by pseudo-values: 94 % and 92 % at 8 images, 94 % and 93 % at 30."""
    for n, expected in ((8, (94, 92)), (30, (94, 93))):
        generator = np.random.default_rng(n)
        held = []
        for _ in range(1500):
            x = np.exp(0.5 * generator.standard_normal(n))
            y = x * np.exp(0.3 * generator.standard_normal(n))
            root = interval_of_means([x], lambda means: np.sqrt(means[0]), seed=0)
            ratio = interval_of_means([y, x], lambda means: means[0] / means[1], seed=0)
            assert root.low <= root.mean <= root.high and ratio.low <= ratio.mean <= ratio.high
            held.append((root.low <= math.exp(0.0625) <= root.high, ratio.low <= math.exp(0.045) <= ratio.high))
        assert tuple(100 * np.mean(held, 0)) == pytest.approx(expected, abs=2.0)


def test_halls_interval_is_his_equation():
    values = np.array([3.0, 4.0, 4.5, 9.0, 4.2, 3.9])
    n, s = 6, values.std(ddof=1) / math.sqrt(6)
    A = skew(values, bias=False) / (3 * math.sqrt(n))
    low, high = (
        values.mean() - s * (np.cbrt(1 + 3 * A * (q - A / 2)) - 1) / A for q in (t.ppf(0.975, 5), t.ppf(0.025, 5))
    )
    found = mean_interval(values, seed=0)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.high - found.mean > 2 * (found.mean - found.low)  # the tail is on the right
    mirrored = mean_interval(-values, seed=0)
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low))


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0, 5.0], list(range(30))])
def test_without_skewness_and_for_2_or_3_images_it_is_students(values):
    found = mean_interval(values, seed=0)
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


def test_from_50_images_on_it_is_the_bootstrap_of_before():
    """To the last bit: numbers of published tables."""
    generator = np.random.default_rng(5)
    v, w = generator.normal(20, 3, 64), generator.uniform(1, 2, 64)
    found = mean_interval(v, seed=0)
    draws = RandomStreams(0).generator("bootstrap", 64).integers(0, 64, (5000, 64))
    assert (found.low, found.high) == tuple(np.percentile(v[draws].mean(-1), [2.5, 97.5]))
    assert (found.low, found.high) == pytest.approx((18.75908364406693, 20.146114073249052), rel=1e-12)
    ratio = interval_of_means([v, w], lambda means: means[0] / means[1], seed=0)
    assert (ratio.low, ratio.high) == pytest.approx((11.945821772969802, 13.41739201551486), rel=1e-8)
    least = mean_interval(v[:50], seed=3)
    assert (least.low, least.high) == pytest.approx((18.329294040511712, 19.762619273660643), rel=1e-12)
    assert mean_interval(v[:49], seed=3) == mean_interval(v[:49], seed=4)  # nothing is drawn


@pytest.mark.parametrize("kept", [100_000_000, 0])
def test_of_many_images_counting_draws_changes_the_order_of_sums_alone(kept, monkeypatch):
    """And of so many that the draws are not kept."""
    monkeypatch.setattr(statistics, "_KEPT", kept)
    generator = np.random.default_rng(5)
    v, w = generator.normal(20, 3, 1000), generator.uniform(1, 2, 1000)
    found = interval_of_means([v, w], lambda means: means[0] / means[1], seed=0)
    draws = RandomStreams(0).generator("bootstrap", 1000).integers(0, 1000, (5000, 1000))
    expected = np.percentile(v[draws].mean(-1) / w[draws].mean(-1), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


def test_interval_of_a_mean_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(20, 3, 400)
    found = mean_interval(values, seed=0)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert found.n == 400


def test_equal_seeds_equal_intervals_and_missing_values_are_left_out():
    for values in ([1.0, 2.0, math.nan, 4.0], [*range(60), math.nan]):
        known = [v for v in values if not math.isnan(v)]
        assert mean_interval(values, seed=3) == mean_interval(known, seed=3)
        assert mean_interval(values, seed=3).n == len(known)


def test_too_few_images():
    one, none = mean_interval([5.0], seed=0), mean_interval([math.nan], seed=0)
    assert one.mean == 5 and math.isnan(one.low) and math.isnan(one.high) and one.n == 1
    assert math.isnan(none.mean) and none.n == 0


@pytest.mark.parametrize("n", [2, 7, 100])
def test_ratio_and_paired_difference(n):
    x = np.random.default_rng(0).uniform(1, 2, n)
    ratio = interval_of_means([2 * x, x], lambda means: means[0] / means[1], seed=0)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2, 2, 2))  # taken together: no variance at all
    paired = paired_difference(x + 0.1, x, seed=0)
    assert (paired.low, paired.high) == pytest.approx((0.1, 0.1))
    linear = interval_of_means([x, x], lambda means: means[0] + means[1], seed=0)
    alone = mean_interval(2 * x, seed=0)
    assert (linear.low, linear.high) == pytest.approx((alone.low, alone.high))


def test_a_ratio_that_hangs_on_one_image_has_no_interval():
    found = interval_of_means([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]], lambda means: means[0] / means[1], seed=0)
    assert found.mean == 2 and math.isnan(found.low) and math.isnan(found.high)
    assert interval_of_means([[1.0, 2.0, 3.0]], first, seed=0).low < 2


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([100, 100, 60], "percentile bootstrap"),
        ([8, 8], "Student's t, corrected for skewness (Hall 1992)"),
        ([3], "Student's t"),
        ([3, 8], "Student's t, corrected for skewness from 4 images on (Hall 1992)"),
        ([8, 50], "Student's t, corrected for skewness (Hall 1992); percentile bootstrap from 50 images on"),
        ([1, 50], "percentile bootstrap; none of a single image"),
        ([1], "none of a single image"),
        ([], "none without images"),
    ],
)
def test_the_words_are_true_of_every_number_of_images(counts, words):
    assert in_words(counts) == words


def test_an_interval_ends_where_the_quantity_does():
    shares = mean_interval([1.0, 1.0, 1.0, 0.2], seed=0)
    assert shares.high > 1
    assert shares.within(0, 1) == Interval(shares.mean, max(shares.low, 0), 1, 4)
    assert shares.within(-np.inf, np.inf) == shares
    alone = mean_interval([0.3], seed=0).within(0, 1)
    assert np.isnan(alone.low) and np.isnan(alone.high)


def test_tables_clip_intervals_to_what_a_metric_can_be():
    metric = SSIM()
    found = tables._intervals({"ssim": metric}, {"ssim": [1.0, 1.0, 0.99, 0.4]}, 0)  # pyright: ignore[reportPrivateUsage]
    assert mean_interval([1.0, 1.0, 0.99, 0.4], seed=0).high > 1 == found["ssim"].high
