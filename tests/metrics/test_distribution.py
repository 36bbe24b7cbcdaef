"""FID, KID and Inception score: Gaussian closed forms, independence of splits, parity with torchmetrics and scipy,
intervals that hold.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from metrics.features import Features
from metrics.fid import fid, fid_of_pairs, fid_without_bias, frechet_distance
from metrics.inception_score import inception_score
from metrics.jackknife import difference
from metrics.kid import kid, kid_of_pairs
from metrics.moments import Moments


def normal(n: int, d: int, seed: int, *, mean: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return mean + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixed(n: int, seed: int, d: int = 6) -> torch.Tensor:
    return (
        normal(n, d, seed) @ torch.randn(d, d, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
        + seed
    )


class Identity(nn.Module):
    """Features for torchmetrics: the numbers in the "image"."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :6].double()


def test_moments_do_not_depend_on_the_split_and_are_numpys():
    f = mixed(1000, 3)
    whole = Moments.of(f)
    parts = [Moments.of(p) for p in f.split([1, 399, 0, 600])]
    merged = sum(parts[1:], parts[0])
    assert merged.count == 1000
    torch.testing.assert_close(merged.covariance, whole.covariance, atol=1e-10, rtol=1e-12)
    np.testing.assert_allclose(whole.covariance.numpy(), np.cov(f.numpy(), rowvar=False), rtol=1e-10)
    torch.testing.assert_close((whole - parts[1]).mean, torch.cat([f[:1], f[400:]]).mean(0), atol=1e-10, rtol=0)


def test_the_distance_of_gaussians_is_a_formula():
    """For covariances that commute: |m_a - m_b|^2 + sum (sqrt a_i - sqrt b_i)^2; moments made by hand, so that nothing
    is estimated.
    """
    variance_a, variance_b = (
        torch.tensor([1.0, 4.0, 0.0], dtype=torch.float64),
        torch.tensor([9.0, 1.0, 0.25], dtype=torch.float64),
    )
    turn = torch.linalg.qr(normal(3, 3, 0))[0]
    mean_a, mean_b = normal(1, 3, 1)[0], normal(1, 3, 2)[0]

    def moments(mean: torch.Tensor, variance: torch.Tensor, n: int = 50) -> Moments:
        covariance = (turn * variance) @ turn.T
        return Moments(n, n * mean, (n - 1) * covariance + n * torch.outer(mean, mean))

    expected = float((mean_a - mean_b).square().sum() + (variance_a.sqrt() - variance_b.sqrt()).square().sum())
    found = frechet_distance(moments(mean_a, variance_a), moments(mean_b, variance_b))
    assert found == pytest.approx(expected, abs=1e-6)  # the square root of an eigenvalue that is 0 to 1e-16 is 1e-8
    assert frechet_distance(moments(mean_a, variance_a), moments(mean_a, variance_a)) == pytest.approx(0, abs=1e-6)


def test_it_is_scipys_and_torchmetrics_number():
    a, b = mixed(300, 1), mixed(400, 2)
    root = scipy.linalg.sqrtm(np.cov(a.numpy(), rowvar=False) @ np.cov(b.numpy(), rowvar=False))
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(
        np.cov(a.numpy(), rowvar=False) + np.cov(b.numpy(), rowvar=False) - 2 * root.real
    )
    assert fid(a, Moments.of(b)).value == pytest.approx(expected, rel=1e-9)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    metric.update(b.view(-1, 6, 1, 1), real=True)
    metric.update(a.view(-1, 6, 1, 1), real=False)
    assert fid(a, Moments.of(b)).value == pytest.approx(float(metric.compute()), rel=1e-6)


def test_fewer_images_than_features_give_a_number():
    """S = X X^T of centred features X has no full rank, and tr (S_a S_b)^(1/2) is the sum of singular values of
    X_a^T X_b.
    """
    a, b = normal(8, 20, 0), normal(9, 20, 1)
    x, y = ((f - f.mean(0)).T / (len(f) - 1) ** 0.5 for f in (a, b))
    expected = (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum()
    expected -= 2 * torch.linalg.svdvals(x.T @ y).sum()
    assert fid(a, Moments.of(b)).value == pytest.approx(float(expected), rel=1e-6)


def test_kid_is_torchmetrics_number_where_its_one_subset_is_everything():
    a, b = mixed(60, 1) / 5, mixed(60, 2) / 5
    metric = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=60, normalize=True).set_dtype(
        torch.float64
    )
    metric.update(b.view(-1, 6, 1, 1), real=True)
    metric.update(a.view(-1, 6, 1, 1), real=False)
    assert kid(a, b).value == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_kid_of_pairs_one_by_one():
    a, b = mixed(21, 4, d=3), mixed(7, 5, d=3)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    xx = [kernel(a[i], a[j]) for i in range(21) for j in range(21) if i != j]
    yy = [kernel(b[i], b[j]) for i in range(7) for j in range(7) if i != j]
    xy = [kernel(x, y) for x in a for y in b]
    assert kid(a, b).value == pytest.approx(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy), rel=1e-10)
    without = [kid(torch.cat([a[:i], a[i + 7 :]]), b).value for i in (0, 7, 14)]
    assert kid(a, b, blocks=3).left_out == pytest.approx(without, rel=1e-10)


def test_the_bias_is_the_references_and_the_line_takes_it_away():
    """Identity covariance, d = 16: E[FID] is about d (1 + (d + 1) / 4) (1 / N + 1 / M) for equal distributions
    (reference 4.3).
    """
    reference = Moments.of(normal(100_000, 16, 0))
    found = [fid(normal(1000, 16, seed), reference).value for seed in range(1, 9)]
    assert np.mean(found) == pytest.approx(16 * (1 + 17 / 4) * (1 / 1000 + 1 / 100_000), rel=0.1)
    straight = [fid_without_bias(normal(1000, 16, seed), reference) for seed in range(1, 9)]
    assert abs(np.mean(straight)) < 0.25 * np.mean(found), (np.mean(straight), np.mean(found))


def test_intervals_are_as_wide_as_the_scatter():
    reference = Moments.of(normal(20_000, 8, 0))
    many = [fid(normal(500, 8, seed, mean=0.3), reference) for seed in range(1, 41)]
    half = np.mean([(e.high - e.low) / 2 for e in many])
    assert 0.7 < half / (1.96 * np.std([e.value for e in many])) < 1.4
    y = normal(500, 8, 0)
    kernels = [kid(normal(300, 8, seed, mean=0.3), y) for seed in range(1, 41)]
    half = np.mean([(e.high - e.low) / 2 for e in kernels])
    assert 0.7 < half / (1.96 * np.std([e.value for e in kernels])) < 1.4


def test_paired_differences_leave_out_what_is_shared():
    """Twice the same noise, once a little wider: the interval of the difference is narrower than those of both, and as
    wide as the scatter of differences.
    """
    reference = Moments.of(normal(20_000, 8, 0))
    found = []
    for seed in range(1, 31):
        a = normal(500, 8, seed)
        found.append(difference(fid(1.1 * a, reference), fid(a, reference)))
    half = np.mean([(e.high - e.low) / 2 for e in found])
    alone = [fid(scale * normal(500, 8, 1), reference) for scale in (1, 1.1)]
    apart = math.hypot(*[(e.high - e.low) / 2 for e in alone])
    assert half < 0.8 * apart, (half, apart)
    assert 0.7 < half / (1.96 * np.std([e.value for e in found])) < 1.4
    to = Moments.of(normal(9, 2, 0))
    for count in (9, 30):  # without an interval, over fewer blocks
        with pytest.raises(ValueError, match="as many blocks"):
            difference(fid(normal(count, 2, 1), to), fid(normal(500, 2, 1), to))


def test_pairs_give_the_same_fid_and_a_kid_without_the_pair():
    """FID: the value of :func:`fid`. KID: the sum over i != j written out. Both are 0, with an interval of 0, where the
    images are their truths.
    """
    truth = mixed(43, 4, d=3) / 5
    restored = truth + 0.3 * normal(43, 3, 9)
    assert fid_of_pairs(restored, truth).value == pytest.approx(fid(restored, Moments.of(truth)).value, rel=1e-9)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def by_hand(x: torch.Tensor, y: torch.Tensor) -> float:
        pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
        return float(np.mean([k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs]))

    found = kid_of_pairs(restored, truth, blocks=4)
    assert found.value == pytest.approx(by_hand(restored, truth), rel=1e-9)
    keep = torch.ones(43, dtype=torch.bool)
    keep[:11] = False  # the first of four blocks
    assert found.left_out[0] == pytest.approx(by_hand(restored[keep], truth[keep]), rel=1e-9)
    for distance, least in ((fid_of_pairs, 1e-6), (kid_of_pairs, 1e-12)):
        same = distance(truth, truth)
        assert abs(same.value) < least and abs(same.high) < 10 * least
        with pytest.raises(ValueError, match="both"):
            distance(restored[1:], truth)


def test_kid_of_pairs_has_no_bias_and_its_interval_holds():
    """Restored images of the same distribution as their truths, but made of them: 0 on average, where the plain
    estimator is too low.
    """
    truths = [normal(60, 8, 2 * seed) for seed in range(40)]
    restored = [0.8 * y + 0.6 * normal(60, 8, 2 * seed + 1) for seed, y in enumerate(truths)]
    pairs = [kid_of_pairs(x, y) for x, y in zip(restored, truths, strict=True)]
    plain = [kid(x, y).value for x, y in zip(restored, truths, strict=True)]
    error = np.std([e.value for e in pairs]) / math.sqrt(40)
    assert abs(np.mean([e.value for e in pairs])) < 3 * error and np.mean(plain) < -10 * error
    worse = [(fid_of_pairs(0.5 * x, y), kid_of_pairs(0.5 * x, y)) for x, y in zip(restored, truths, strict=True)]
    for one in zip(*worse, strict=True):
        half = np.mean([(e.high - e.low) / 2 for e in one])
        assert 0.7 < half / (1.96 * np.std([e.value for e in one])) < 1.5


def test_the_inception_score_between_its_ends():
    sure = torch.eye(10, dtype=torch.float64).repeat(20, 1)
    assert inception_score(sure).value == pytest.approx(10)
    assert inception_score(torch.full((200, 10), 0.1)).value == pytest.approx(1, abs=1e-6)
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).repeat(20, 1)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert inception_score(p, splits=2).value == pytest.approx(math.exp(math.log(2) - entropy))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="two networks"):
        frechet_distance(Moments.of(normal(9, 3, 0)), Moments.of(normal(9, 4, 0)))
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Moments.of(normal(1, 3, 0)), Moments.of(normal(9, 3, 0)))
    with pytest.raises(ValueError, match="finite"):
        Moments.of(torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match="at least 4"):
        fid(normal(3, 2, 0), Moments.of(normal(9, 2, 0)))
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(torch.ones(40, 10))


def test_batches_are_collected_as_they_are_joined_and_other_counts_are_refused():
    batches = [Features(torch.randn(n, 3), torch.rand(n, 2)) for n in (4, 4, 1)]
    joined, collected = Features.joined(batches), Features.collected(9, iter(batches))
    torch.testing.assert_close(collected.features, joined.features, rtol=0, atol=0)
    torch.testing.assert_close(collected.probabilities, joined.probabilities, rtol=0, atol=0)
    assert Features.collected(4, [Features(torch.randn(4, 3))]).probabilities is None
    for count in (8, 10, 0):
        with pytest.raises(ValueError, match="the batches give"):
            Features.collected(count, iter(batches))
    with pytest.raises(ValueError, match="give 0 rows, not 1"):
        Features.collected(1, [])
