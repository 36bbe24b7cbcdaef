import math
from xml.etree import ElementTree

import pytest

from evaluation.report.plots import intervals, scatter, strips, ticks
from evaluation.report.statistics import Interval

NAN = float("nan")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (12.3, 47.9), (-3, 0.02), (1e-6, 2e-6), (5, 5)])
def test_ticks_are_inside_and_round(low, high):
    found = ticks(low, high)
    assert found and all(low - 1e-9 <= t <= high + 1e-9 for t in found)
    assert len(found) <= 7


def test_plots_are_well_formed_whatever_the_names():
    name = "<b>&\"'"
    groups = [
        (
            name,
            [
                (name, 0, Interval(1, 0.5, 1.5, 3)),
                ("one", 1, Interval(2, NAN, NAN, 1)),
                ("none", 2, Interval(NAN, NAN, NAN, 0)),
            ],
        )
    ]
    pages = [
        intervals(groups, label=name, title=name),
        strips([(name, [(name, 0, [1.0, 2.0, NAN]), ("none", 1, [])])], label=name, title=name),
        scatter([(name, 0, 0.1, 20.0, name), ("free", 1, 0.0, 10.0, "")], x_label=name, y_label=name, title=name),
    ]
    for page in pages:
        root = ElementTree.fromstring(page)
        assert root.get("aria-label") == name
        assert "nan" not in page


def test_nothing_to_show_is_nothing():
    assert intervals([("t", [("m", 0, Interval(math.nan, NAN, NAN, 0))])], label="", title="") == ""
    assert strips([], label="", title="") == "" and scatter([], x_label="", y_label="", title="") == ""
