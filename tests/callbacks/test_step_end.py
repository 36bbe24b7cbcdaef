"""A run that is stopped anywhere, at any step, and goes on is the undisturbed run: weights, rows, grids, measures."""

import os
import signal

import pytest
import torch
from stopped_runs import PLACES, Killed, on_two, stopped, train

from callbacks.preemption import Preempted

STEPS = 8  # epochs of 4 steps; a validation at 3 and 6 by "step", at the end of each epoch by "epoch"

OFTEN = {
    "step": {"val_check_interval": 3, "max_steps": STEPS},
    "last": {"val_check_interval": 4, "max_steps": STEPS},
    "epoch": {"check_val_every_n_epoch": 1, "val_check_interval": 1.0, "max_epochs": 2, "max_steps": -1},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return {name: train(tmp_path_factory.mktemp(name), often=often) for name, often in OFTEN.items()}


def same(found: dict, expected: dict, kept: tuple[int, ...] = (4, 8)) -> None:
    assert found["rows"] == expected["rows"]
    assert found["grids"] == expected["grids"]
    assert found["kept"] == expected["kept"] == [f"step_{k:07d}.ckpt" for k in kept]
    for kind in ("raw", "average"):
        assert all(torch.equal(value, found[kind][name]) for name, value in expected[kind].items()), kind


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def killed() -> None:
    raise Killed


def test_stopped_at_every_step(undisturbed, tmp_path):
    """In every step, every validation, every grid and every measurement, one stop after the other."""
    found, met = stopped(tmp_path, OFTEN["step"], PLACES, terminated, range(1, STEPS + 1))
    same(found, undisturbed["step"])
    steps = {place: [step for where, step in met if where == place] for place in PLACES}
    due = {"step": list(range(1, STEPS + 1)), "validation": [3, 6], "grid": [3], "quality": [2, 4, 6, 8]}
    assert steps == due


@pytest.mark.parametrize("often", ["last", "epoch"])
@pytest.mark.parametrize("first", ["step", "validation"])
def test_stopped_at_the_end_of_an_epoch_and_of_the_run(often, first, undisturbed, tmp_path):
    found, met = stopped(tmp_path, OFTEN[often], {first, "quality"}, terminated, range(8, 9))
    assert met == [(first, 8), ("quality", 8)]
    same(found, undisturbed[often])


def test_killed(undisturbed, tmp_path):
    """Nothing is lost but whole steps, and no row stands twice, also where there was no checkpoint yet."""
    found, met = stopped(tmp_path, OFTEN["step"], {"step", "validation", "quality"}, killed, range(2, 7))
    assert len(met) == 5 + 2 + 3
    same(found, undisturbed["step"])


@pytest.mark.parametrize("place", ["validation", "quality"])
def test_a_long_one_is_broken_off_at_once(place, tmp_path):
    def disturb(here, now):
        if here == place:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it goes on")

    with pytest.raises(Preempted):
        train(tmp_path, often=OFTEN["step"], disturb=disturb)


@pytest.mark.slow
def test_stopped_at_every_step_of_20_on_one_process(tmp_path):
    often = {"val_check_interval": 3, "max_steps": 20}
    found, met = stopped(tmp_path / "run", often, PLACES, terminated, range(1, 21))
    assert [step for place, step in met if place == "step"] == list(range(1, 21))
    same(found, train(tmp_path / "whole", often=often), kept=(4, 8, 12, 16, 20))


@pytest.mark.slow
def test_stopped_at_every_step_of_20_on_two_processes(tmp_path):
    """One of the two is told, by turns; no row is missing and none stands twice."""
    on_two(tmp_path, {"val_check_interval": 3, "max_steps": 20}, ("step", "validation", "quality"), range(1, 21))
    for rank in (0, 1):
        whole, found, met = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert [step for place, step in met if place == "step"] == list(range(1, 21))
        assert [step for place, step in met if place == "validation"] == [3, 6, 9, 12, 15, 18]
        assert [step for place, step in met if place == "quality"] == list(range(2, 21, 2))
        same(found, whole, kept=(4, 8, 12, 16, 20))


@pytest.mark.slow
def test_two_processes_break_off_a_long_validation_between_two_batches(tmp_path):
    """Before, they ended it: longer than the time that a cluster gives, it lost the run."""
    many = {"val_check_interval": 2, "max_steps": 2, "batches_of": 1}
    on_two(tmp_path, many, ("validation",), range(1, 3))
    for rank in (0, 1):
        whole, found, met = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert met == [("validation", 2)]
        assert (whole["validated"], found["validated"]) == (10, 10 + 1), (
            "one batch until it was noticed, then all again"
        )
        same(found, whole, kept=())
