"""The time left is that of each cell, not an average over cheap and dear ones."""

import pytest

from evaluation import progress
from evaluation.cells import Cell
from evaluation.progress import Display


def cell(task: str, method: str, nfe: int) -> Cell:
    return Cell(task, method, total=10, images=10, num_samples=1, nfe=nfe, backwards=0)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_dear_method_without_a_network_does_not_make_the_others_dear(clock):
    """A fit takes 10 s an image and calls nothing, sampling 1 s an image with 100 calls: an average over calls would be
    wrong by orders of magnitude.
    """
    fit, sample = cell("a", "fit", 0), cell("a", "sample", 100)
    display = Display([fit, sample])
    for _ in range(9):
        clock[0] += 10
        display.advance(fit, 1)
    for _ in range(5):
        clock[0] += 1
        display.advance(sample, 1)
    assert display._left() == "15 s left"  # one image of 10 s, five of 1 s


def test_the_same_method_on_another_task_is_reckoned_from_the_first(clock):
    first, second = cell("a", "sample", 100), cell("b", "sample", 100)
    display = Display([first, second])
    clock[0] += 20
    display.advance(first, 10)
    assert display._left() == "20 s left"


def test_what_is_only_guessed_says_so(clock):
    first, other = cell("a", "sample", 100), cell("a", "longer", 200)
    display = Display([first, other])
    clock[0] += 10
    display.advance(first, 10)
    assert display._left() == "about 20 s left"


def test_a_method_without_a_network_says_nothing_of_one_that_has_not_begun(clock):
    """2 s a sample for total variation are no 200 s for 100 calls of a network ("12 h left" for four minutes)."""
    classical, sample = cell("a", "total_variation", 0), cell("a", "sample", 100)
    display = Display([classical, sample])
    clock[0] += 16
    display.advance(classical, 8)
    assert display._left() == "at least 4.0 s left"
    clock[0] += 4
    display.advance(classical, 2)
    clock[0] += 1
    display.advance(sample, 1)
    assert display._left() == "9.0 s left"
