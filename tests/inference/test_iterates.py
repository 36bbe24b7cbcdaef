"""The strip of iterates and the curves: few are kept, the last is near, tables hold every number, pictures have their
places.
"""

import csv
import io
import itertools
import math

import numpy as np
import pytest
import torch

from inference.iterates import LINE, MARK, Iterates, curves, strip, table, with_iterations


def after(count: int, channels: int = 1) -> Iterates:
    iterates = Iterates()
    for i in range(count):
        iterates(i, 5000, torch.full((2, channels, 6, 5), -1 + 2 * i / count))
    return iterates


@pytest.mark.parametrize("count", [1, 2, 7, 100, 5000])
def test_few_are_kept_and_spread(count):
    iterates = after(count)
    kept, chosen = sorted(iterates.kept), iterates.chosen()
    assert kept[0] == 1 and len(kept) <= 3 + 2 * math.log2(count) and count / kept[-1] < 1.5
    assert all(b <= max(a + 1, 1.5 * a) for a, b in itertools.pairwise(kept))
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(kept) and len(chosen) <= 7 and chosen[-1] == kept[-1]
    assert chosen[0] <= max(1, 0.05 * count)


def test_an_estimate_that_is_not_finite_is_left_out():
    iterates = Iterates()
    iterates(0, 3, torch.full((1, 1, 4, 4), float("nan")))
    iterates(1, 3, torch.zeros(1, 1, 4, 4))
    assert list(iterates.kept) == [2]


def test_strip_shows_iterates_and_answer():
    """Tiles from left to right become brighter, as the estimates do; the answer is the last; a truth adds a line of
    words.
    """
    iterates = after(200, channels=3)
    answer = torch.ones(3, 6, 5)
    sheet = strip(iterates, answer)
    tiles = len(iterates.chosen()) + 1
    width = (sheet.shape[1] - 8) // tiles
    middles = [float(sheet[60, 8 + k * width + 70].mean()) for k in range(tiles)]
    assert middles == sorted(middles) and middles[-1] == 255 and middles[0] < 10
    assert strip(iterates, answer, answer).shape[0] > sheet.shape[0]


@pytest.mark.parametrize("shape", [(1, 300, 700), (3, 1, 400), (1, 28, 28)])
def test_strip_of_any_size(shape):
    iterates = Iterates()
    iterates(0, 2, torch.zeros(1, *shape))
    sheet = strip(iterates, torch.zeros(shape))
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3 and max(sheet.shape[:2]) < 700


def test_table():
    rows = list(
        csv.reader(io.StringIO(table({"iteration": [5, 10, 15], "risk": [0.25, 1e-9, math.nan], "late": [2.0]})))
    )
    assert rows == [["iteration", "risk", "late"], ["5", "0.25", "2"], ["10", "1e-09", ""], ["15", "", ""]]
    assert table({"objective": [3.0, 2.0]}).splitlines() == ["iteration,objective", "0,3", "1,2"]
    assert table({}).splitlines() == ["iteration"]


def test_iterations_are_counted_as_the_method_counts():
    """n entries are those after iterations 1 to n; n + 1 begin before the first; anything else is left alone."""
    assert with_iterations({"risk": [3.0, 2.0]}, 2)["iteration"] == [1, 2]
    assert with_iterations({"objective": [3.0, 2.0], "severity": [4.0]}, 1)["iteration"] == [0, 1]
    assert "iteration" not in with_iterations({"risk": [3.0, 2.0]}, 9)
    assert with_iterations({"iteration": [5, 10], "risk": [3.0, 2.0]}, 2)["iteration"] == [5, 10]


def test_curves_fall_where_the_numbers_fall():
    """The line of a falling straight: at the left it is high, at the right low; a mark stands at its iteration."""
    sheet = curves(
        {"iteration": list(range(1, 101)), "risk": [float(100 - k) for k in range(100)]}, {"answer": 51}
    ).astype(int)
    blue = np.abs(sheet - np.array(LINE)).sum(-1) < 60
    heights = {x: np.nonzero(blue[:, x])[0].mean() for x in (100, 400, 700)}
    assert heights[100] < heights[400] < heights[700]
    red = np.nonzero((np.abs(sheet - np.array(MARK)).sum(-1) < 150).sum(0) > 60)[0]
    assert len(red) and abs(red.mean() - (74 + 666 * 50 / 99)) < 3


def test_curves_of_what_has_none():
    assert curves({}) is None and curves({"severity": [4.0]}) is None and curves({"x": [float("nan"), 1.0]}) is None
    one = curves({"a": [1.0, 1.0, float("nan")], "b": [1e-6, 1.0, 1e4]})
    assert one.shape[0] == 2 * curves({"a": [1.0, 2.0]}).shape[0]
