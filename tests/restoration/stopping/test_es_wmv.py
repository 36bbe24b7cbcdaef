"""Moving variances of the outputs, against their definition."""

import math

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


def test_outputs_that_settle():
    """An alternating deviation of 0.4 e^(-j / 80) makes the variance fall for as long as float32 outputs still change,
    which exact arithmetic on the same outputs follows to the last digit: it must not end where a difference of two
    sums has lost its digits.
    """
    generator = torch.Generator().manual_seed(0)
    base, v = torch.rand(1, 1, 8, 8, generator=generator) - 0.5, torch.randn(1, 1, 8, 8, generator=generator)
    outputs = [base + 0.4 * v * math.exp(-j / 80) * (-1) ** j for j in range(1, 2001)]
    watch = ESWMV(window=20, patience=60).watch(noisy(1), random=RandomStreams(0), iterations=2000)
    exact, least, best, stop = [], float("inf"), 0, 0
    for j in range(20, 2001):
        window = torch.stack(outputs[j - 20 : j]).double() / 2
        exact.append(float((window - window.mean(0)).square().mean()))
        if exact[-1] < least:
            least, best = exact[-1], j
        elif j - best >= 60:
            stop = j
            break
    verdicts = [watch.update(j, x, x) for j, x in enumerate(outputs, start=1)]
    assert best > 1200
    assert next(j for j, x in enumerate(verdicts, start=1) if x.stop) == pytest.approx(stop, abs=20)  # a window
    assert max(j for j, x in enumerate(verdicts, start=1) if x.improved) == pytest.approx(best, abs=20)


def test_a_state_of_before_is_gone_on_with():
    """Two running sums beside outputs in [0, 1], as they were kept until November 2026."""
    outputs = follow(ESWMV(window=9, patience=50), noisy(3), iterations=30).outputs
    plain, resumed = (
        ESWMV(window=9, patience=50).watch(noisy(3), random=RandomStreams(0), iterations=30) for _ in "ab"
    )
    for j, x in enumerate(outputs[:20], start=1):
        plain.update(j, x, x)
    state, window = plain.state_dict(), [(x.double() + 1) / 2 for x in outputs[11:20]]
    for name in ("mean", "spread"):
        del state[name]
    old = {"ring": window, "sum": sum(window), "squares": sum(x.square().flatten(1).mean(1) for x in window)}
    resumed.load_state_dict({**state, **old})
    for j, x in enumerate(outputs[20:], start=21):
        plain.update(j, x, x)
        resumed.update(j, x, x)
        torch.testing.assert_close(resumed.values["variance"], plain.values["variance"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("options", [{"window": 1}, {"patience": 0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="at least"):
        ESWMV(**options)
