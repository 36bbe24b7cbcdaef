"""Precision, recall, density and coverage: parity with the prdc package, closed forms, ties, intervals that hold."""

import math
from collections.abc import Callable
from typing import Any

import prdc
import pytest
import torch

from metrics.base import Missing
from metrics.features import Features
from metrics.jackknife import Estimate
from metrics.precision_recall import Precision, Recall, coverage, density, precision, recall

ALL: dict[str, Callable[..., Estimate]] = {
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}


NETWORK: Any = None  # compute() asks no network


def normal(n: int, d: int, seed: int, *, mean: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("generated", "real", "dimension", "k", "mean"),
    [(200, 300, 8, 3, 0.0), (300, 100, 64, 5, 0.3), (90, 90, 2, 1, 1.0), (31, 250, 16, 5, 0.5)],
)
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_the_numbers_of_prdc(generated, real, dimension, k, mean, far):
    """The reference code of Naeem et al., on sets without ties; far from 0 too, where squares of features are large."""
    y, x = normal(generated, dimension, 0, mean=mean, scale=0.8), normal(real, dimension, 1)
    expected = prdc.compute_prdc(x.numpy(), y.numpy(), nearest_k=k)
    for name, metric in ALL.items():
        assert metric(y + far, x + far, neighbours=k).value == pytest.approx(float(expected[name]), abs=1e-9), name


def left_out_by_hand(metric: Callable[..., Estimate], y: torch.Tensor, x: torch.Tensor, k: int, blocks: int) -> Any:
    parts = y.tensor_split(blocks)
    return [metric(torch.cat([p for q, p in enumerate(parts) if q != b]), x, neighbours=k).value for b in range(blocks)]


@pytest.mark.parametrize("name", ALL)
def test_the_interval_leaves_out_whole_blocks(name):
    """What a block less gives is the metric of the others, balls and all; blocks of unequal size."""
    y, x = normal(47, 3, 2, mean=0.4), normal(60, 3, 3)
    found = ALL[name](y, x, neighbours=3, blocks=5)
    assert found.left_out == pytest.approx(left_out_by_hand(ALL[name], y, x, 3, 5), abs=1e-12)
    assert len(set(found.left_out)) > 1 and found.low < found.value < found.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "widest"), [("precision", 1.6), ("recall", 1.75), ("density", 1.6), ("coverage", 2.1)]
)
def test_the_interval_is_as_wide_as_other_images_scatter(name, widest):
    """Against one reference, over 40 sets of 200: half of the mean interval over 1.96 deviations (60 sets gave
    1.74 for coverage, where images left out have neighbours that stand in for them).
    """
    x = normal(300, 4, 1000)
    found = [ALL[name](normal(200, 4, s, scale=0.9), x) for s in range(40)]
    scatter = 1.96 * float(torch.tensor([f.value for f in found]).std())
    half = sum(f.high - f.low for f in found) / 2 / len(found)
    assert 0.8 * scatter < half < widest * scatter
    mean = sum(f.value for f in found) / len(found)
    assert sum(f.low <= mean <= f.high for f in found) >= 35


def test_an_equal_distribution_has_the_expected_coverage_and_density():
    """1 - prod (M - 1 - l) / (M + N - 1 - l) (Naeem et al., equation 9) and 1, both in the mean over sets."""
    n, m, k = 60, 80, 5
    sets = [(normal(n, 3, 2 * s), normal(m, 3, 2 * s + 1)) for s in range(40)]
    expected = 1 - math.prod((m - 1 - j) / (m + n - 1 - j) for j in range(k))
    assert sum(coverage(y, x).value for y, x in sets) / 40 == pytest.approx(expected, abs=0.01)
    assert sum(density(y, x).value for y, x in sets) / 40 == pytest.approx(1, abs=0.06)


def test_equal_images_are_inside_balls_of_radius_0():
    """<=, not < as in prdc: a set whose images all come four times has radius 0 for k = 3, and is itself."""
    x = normal(30, 5, 4, mean=1e3).repeat_interleave(4, 0)
    assert precision(x, x).value == recall(x, x).value == 1
    other = normal(120, 5, 5, mean=1e3)
    assert precision(other, x).value == 0 and recall(x, other).value == 0


def test_a_collapsed_prior_is_precise_and_recalls_nothing():
    x = normal(400, 6, 6)
    one = x[:1] + 1e-3 * normal(200, 6, 7)
    assert precision(one, x).value == 1 and recall(one, x).value < 0.01 and coverage(one, x).value < 0.05
    noise = normal(200, 6, 8, scale=9.0)
    assert precision(noise, x).value < 0.1 and recall(noise, x).value > 0.9


def test_where_all_are_inside_the_interval_is_that_of_a_share():
    """Clopper and Pearson: of N without an exception 1 - 0.025^(1 / N)."""
    x = normal(400, 6, 6)
    found = precision(x[:100], x)
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.025 ** (1 / 100))
    none = precision(x[:100] + 100, x)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_too_few_are_said_in_words():
    few, many = Features(normal(3, 2, 0)), Features(normal(30, 2, 1))
    with pytest.raises(Missing, match="needs at least 4 images of the reference, there are 3"):
        Precision(features=NETWORK).compute(many, few)
    with pytest.raises(Missing, match="restored images and their truths"):
        Recall(features=NETWORK).compute(many, many, paired=True)
    with pytest.raises(ValueError, match="need at least 10 generated and 4 real features, got 9 and 30"):
        recall(normal(9, 2, 0), normal(30, 2, 1))
    with pytest.raises(ValueError, match=r"\[N, d\] and \[M, d\]"):
        precision(normal(20, 2, 0), normal(30, 3, 1))
    with pytest.raises(ValueError, match="reference_images more than neighbours"):
        Precision(features=NETWORK, reference_images=3)


def test_only_so_many_of_the_reference_are_taken():
    y, x = Features(normal(40, 3, 0, mean=0.5)), Features(normal(60, 3, 1))
    first = Precision(features=NETWORK, reference_images=25).compute(y, x)
    assert first == Precision(features=NETWORK).compute(y, x.rows(torch.arange(25)))
    assert first != Precision(features=NETWORK).compute(y, x)
