"""``make check`` takes some cases of each test: evenly, the same each time, never none."""

from itertools import pairwise

import pytest
from suite_options import spread


@pytest.mark.parametrize(("number", "count"), [(1, 2), (2, 2), (7, 2), (7, 3), (7, 1), (100, 9)])
def test_cases_are_spread_evenly(number, count):
    cases = list(range(number))
    chosen = spread(cases, count)
    assert len(chosen) == len(set(chosen)) == min(number, count) and chosen == sorted(chosen)
    assert chosen[0] == 0 and (count == 1 or chosen[-1] == number - 1)
    steps = {b - a for a, b in pairwise(chosen)}
    assert not steps or max(steps) - min(steps) <= 1
