"""Power-function profiles: the paper's numbers, the recursion against the integral, combinations against a direct
minimisation.
"""

import numpy as np
import pytest

from common.power_profile import Profile, combine, gamma_of, inner_product, power_decay, width_of

# Karras et al. 2024 (2312.02696), section 3.1, and the reference sheet 1.5.
TABLE = {0.05: 16.9722, 0.10: 6.9372, 0.15: 3.5579, 0.20: 1.8262}


@pytest.mark.parametrize(("width", "gamma"), TABLE.items())
def test_the_exponent_of_a_width(width, gamma):
    assert gamma_of(width) == pytest.approx(gamma, abs=5e-5)


@pytest.mark.parametrize("width", [0.001, 0.01, 0.05, 0.123, 0.2, 0.28])
def test_the_width_is_the_standard_deviation_of_the_profile(width):
    """E and E of the square of tau / t under (gamma + 1) u^gamma are (gamma + 1) / (gamma + 2) and (gamma + 1) / (gamma
    + 3).
    """
    g = gamma_of(width)
    assert width_of(g) == pytest.approx(width, rel=1e-12)
    assert ((g + 1) / (g + 3) - ((g + 1) / (g + 2)) ** 2) ** 0.5 == pytest.approx(width, rel=1e-6)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.2887, 1.0])
def test_widths_that_no_profile_has(width):
    with pytest.raises(ValueError, match=r"between 0 and 0\.288"):
        gamma_of(width)


def test_the_recursion_is_the_integral_of_the_profile():
    """Whatever the steps, the weight of step k at the end is the integral of p over its images; the first update leaves
    nothing of the start.
    """
    rng = np.random.default_rng(0)
    for width in TABLE:
        gamma = gamma_of(width)
        steps = rng.integers(1, 200, 300)
        ends = np.cumsum(steps)
        weights = np.zeros(len(steps))
        for k, (step, seen) in enumerate(zip(steps, ends, strict=True)):
            d = power_decay(int(step), int(seen), gamma)
            weights *= d
            weights[k] = 1 - d
        integral = np.diff(np.concatenate([[0.0], (ends / ends[-1]) ** (gamma + 1)]))
        np.testing.assert_allclose(weights, integral, rtol=1e-9, atol=1e-15)
        assert weights.sum() == pytest.approx(1, abs=1e-12) and power_decay(7, 7, gamma) == 0


def test_inner_products_against_a_fine_sum():
    a, b = Profile(700.0, gamma_of(0.05)), Profile(1000.0, gamma_of(0.1))
    tau = (np.arange(700_000) + 0.5) * 1e-3

    def p(profile):
        return (profile.gamma + 1) * (tau / profile.images) ** profile.gamma / profile.images

    assert inner_product(a, b) == inner_product(b, a) == pytest.approx(float((p(a) * p(b)).sum() * 1e-3), rel=1e-6)


def test_a_profile_that_was_kept_is_itself():
    snapshots = [Profile(125.0 * (k + 1), gamma_of(w)) for k in range(8) for w in (0.05, 0.1)]
    for kept, width in ((-2, 0.05), (-1, 0.1)):
        found = combine(snapshots, Profile(1000.0, gamma_of(width)))
        expected = np.zeros(len(snapshots))
        expected[kept] = 1
        np.testing.assert_allclose(found.weights, expected, atol=1e-6)
        assert found.residual < 1e-6 and found.gain == pytest.approx(1, abs=1e-6)


def test_the_combination_minimises_the_distance_of_the_profiles():
    """On a fine grid of tau, numpy's least squares gives the same profile (up to the sum, which is made 1)."""
    snapshots = [Profile(1000.0 * (k + 1) / 6, gamma_of(w)) for k in range(6) for w in (0.05, 0.1)]
    target = Profile(1000.0, gamma_of(0.15))
    tau = (np.arange(200_000) + 0.5) / 200

    def p(profile):
        return np.where(
            tau <= profile.images, (profile.gamma + 1) * (tau / profile.images) ** profile.gamma / profile.images, 0
        )

    columns = np.stack([p(s) for s in snapshots], 1)
    direct = np.linalg.lstsq(columns, p(target), rcond=None)[0]
    found = combine(snapshots, target)
    np.testing.assert_allclose(found.weights, direct / direct.sum(), atol=1e-3)
    residual = np.linalg.norm(columns @ np.array(found.weights) - p(target)) / np.linalg.norm(p(target))
    assert found.residual == pytest.approx(residual, rel=1e-2) and sum(found.weights) == pytest.approx(1, abs=1e-12)


def test_more_snapshots_reach_further():
    def residual(count: int, width: float) -> float:
        return combine(
            [Profile(1000.0 * (k + 1) / count, gamma_of(w)) for k in range(count) for w in (0.05, 0.1)],
            Profile(1000.0, gamma_of(width)),
        ).residual

    for width in (0.03, 0.07, 0.2):
        assert residual(64, width) < residual(16, width) < residual(4, width)
    assert residual(64, 0.07) < 1e-3 and residual(8, 0.01) > 0.3


def test_without_snapshots():
    with pytest.raises(ValueError, match="at least one"):
        combine([], Profile(10.0, 5.0))
