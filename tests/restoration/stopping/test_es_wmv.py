"""Moving variances of the outputs, against their definition."""

import pytest
import torch
from stopping_worlds import follow, noisy

from common.random_streams import RandomStreams
from restoration.stopping.es_wmv import ESWMV


def test_it_is_the_variance_of_a_window():
    """Every value, the minimum and the end equal those of a direct implementation of algorithm 1 of 2112.06074 in [0,
    1] units.
    """
    found = follow(ESWMV(window=9, patience=20), noisy(3), iterations=150)
    units = torch.stack([(o + 1) / 2 for o in found.outputs])
    for image in range(3):
        least, best = float("inf"), 0
        for j in range(9, 151):
            window = units[j - 9 : j, image]
            variance = float((window - window.mean(0)).square().flatten(1).sum(1).mean() / window[0].numel())
            assert float(found.values[j - 1]["variance"][image]) == pytest.approx(variance, rel=1e-9, abs=1e-15)
            if variance < least:
                least, best = variance, j
            elif j - best >= 20:
                break
        assert found.kept_at[image] == best and found.stopped_at[image] == (j if j < 150 else 0)


def test_the_minimum_of_a_curve_made_by_hand():
    """Outputs a_j (-1)^j v: the variance of a window of two is |v|^2 (a_j + a_(j-1))^2 / 16 N in [0, 1] units, least
    where a is.
    """
    size = torch.tensor([5, 4, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8.0])
    v = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    watch = ESWMV(window=2, patience=4).watch(noisy(1), random=RandomStreams(0), iterations=12)
    improved, stopped = [], []
    for j, a in enumerate(size, start=1):
        verdict = watch.update(j, a * (-1) ** j * v, v)
        improved.append(bool(verdict.improved))
        stopped.append(bool(verdict.stop))
        if j > 1:
            assert float(watch.values["variance"]) == pytest.approx(
                float(v.square().mean() * (a + size[j - 2]) ** 2 / 16), rel=1e-5
            )
    assert improved == [False, True, True, True, True] + [False] * 7  # 6 and 5 have equal sums: not strictly lower
    assert stopped.index(True) == 8  # the ninth, 4 after the fifth


def test_running_sums_do_not_drift():
    """Thousands of additions and subtractions later the variance of constant outputs is 0."""
    watch = ESWMV(window=3, patience=9000).watch(noisy(1), random=RandomStreams(0), iterations=9000)
    generator = torch.Generator().manual_seed(0)
    for j in range(1, 800):
        x = torch.rand(1, 1, 16, 16, generator=generator)
        watch.update(j, x, x)
    for j in range(800, 804):
        watch.update(j, x, x)
    assert 0 <= float(watch.values["variance"]) < 1e-12


@pytest.mark.parametrize("options", [{"window": 1}, {"patience": 0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="at least"):
        ESWMV(**options)
