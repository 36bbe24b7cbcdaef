"""docs/operators.md has a row for every degradation, and says truly what solves it and whether it is drawn."""

import re
from pathlib import Path

import pytest
from operator_examples import CASES

from degradations.base import Degradation
from inference.catalogue import catalogue

PAGE = (Path(__file__).parents[2] / "docs/operators.md").read_text(encoding="utf-8")
ROWS = {
    match[1]: [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if (match := re.match(r"\| `(\w+)`", line))
}


def test_every_degradation_has_a_row():
    assert set(ROWS) == set(catalogue("degradations", Degradation))


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"at_severity"}))
def test_rows_are_true(name: str):
    """Of every example of the tests; words that name two ways are true where both occur."""
    mine = [case for case in CASES if case.name.rsplit(" ", 1)[0] == name]
    solved = set()
    for case in mine:
        operator = case.make(case.shapes[0], [0])
        solved.add("not linear" if not operator.linear else "CG" if operator.svd is None else "SVD")
    said = {word for word in ("not linear", "CG", "SVD") if word in ROWS[name][2]}
    assert solved - {"not linear"} <= said if name == "composition" else solved == said
    draws = {case.degradation(case.shapes[0]).draws for case in mine if case.degradation is not None}
    assert (True in draws) == bool(ROWS[name][3])
