"""What a fit monitors, a number for every iteration."""

import math

import pytest
import torch

from restoration.deep_image_prior.curves import FIRST, Curves


def recorded(count, *, begin=1, end=None):
    """Two rows: a is the iteration and its negative, b from one iteration to another alone."""
    curves = Curves()
    for k in range(1, count + 1):
        later = {"b": torch.full((2,), 10.0 * k)} if begin <= k <= (end or count) else {}
        curves.record(k, {"a": torch.tensor([k, -k]).double(), **later})
    return curves


@pytest.mark.parametrize("count", [1, 5, FIRST, FIRST + 1, 3 * FIRST])
def test_every_number_is_where_it_was_recorded(count):
    found = recorded(count).upto(count)["a"]
    expected = torch.arange(1.0, count + 1).double()
    assert found.dtype == torch.float64 and torch.equal(found, torch.stack([expected, -expected], 1))


def test_iterations_without_a_number_are_nan():
    """Before, between and after: nothing is shifted."""
    curves = recorded(9, begin=4, end=6)
    curves.record(12, {"b": torch.tensor([1.0, 2.0])})
    found = curves.upto(14)
    held = [k + 1 for k, v in enumerate(found["b"][:, 0].tolist()) if not math.isnan(v)]
    assert held == [4, 5, 6, 12] and found["b"].shape == found["a"].shape == (14, 2)
    assert found["b"][11].tolist() == [1, 2]


@pytest.mark.parametrize("count", [3, FIRST + 2])
def test_going_on_is_as_if_never_left(count):
    whole = recorded(count + 4)
    again = Curves()
    again.restore(recorded(count).upto(count), torch.device("cpu"))
    for k in range(count + 1, count + 5):
        again.record(k, {"a": torch.tensor([k, -k]).double(), "b": torch.full((2,), 10.0 * k)})
    for name, values in whole.upto(count + 4).items():
        assert torch.equal(again.upto(count + 4)[name], values), name


def test_they_go_where_the_fit_is():
    """Checkpoints are read on the CPU; what an accelerator adds could not be joined with it. Older ones have lists."""
    curves = Curves()
    curves.restore({"a": torch.zeros(4, 2), "b": [torch.zeros(2)] * 3, "c": []}, torch.device("meta"))
    found = curves.upto(4)
    assert set(found) == {"a", "b"} and all(v.device.type == "meta" and v.shape == (4, 2) for v in found.values())


def test_an_iteration_makes_no_tensor_that_stays(monkeypatch):
    """Small ones between large ones keep the allocator from giving memory back."""
    curves, made = Curves(), []
    original = torch.Tensor.new_full
    monkeypatch.setattr(torch.Tensor, "new_full", lambda *a, **k: made.append(1) or original(*a, **k))
    for k in range(1, 4 * FIRST + 1):
        curves.record(k, {"a": torch.zeros(2)})
    assert len(made) == 3  # FIRST, twice and four times as long
