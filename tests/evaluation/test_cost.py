"""The cost of a cell is measured: steps of the method itself, given up after a while."""

import time

import pytest
import torch

from common.errors import UserError
from evaluation.cells import make_cells
from evaluation.config import parse_config
from evaluation.cost import estimate
from evaluation.plan import make_plan
from restoration.base import Cost, Method, Restoration

HERE = f"{__name__}."


class Slow(Method):
    """`steps` reports, `seconds` apart, after `before` seconds."""

    deterministic = True
    finished = 0

    def __init__(self, *, steps: int = 10, seconds: float = 0.0, before: float = 0.0, refuses: bool = False) -> None:
        self.steps, self.seconds, self.before, self.refuses = steps, seconds, before, refuses

    def check(self, operator, noise) -> None:
        if self.refuses:
            raise UserError("no")

    def calls(self) -> Cost:
        return Cost()

    def restore(self, measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        time.sleep(self.before)
        for step in range(self.steps):
            time.sleep(self.seconds * len(measurement.y))
            on_step(step, self.steps, measurement.y)
        type(self).finished += 1
        return Restoration(samples=torch.zeros(len(measurement.y), 1, 1, 8, 8))


def plan_of(**methods):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 6,
        "batch_size": 4,
        "tasks": {"a": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {name: {"class_path": f"{HERE}Slow", "init_args": options} for name, options in methods.items()},
    }
    return make_plan(parse_config(raw, "test"))


@pytest.fixture
def clock(monkeypatch):
    """Time passes in sleep alone: nothing here depends on the machine."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_every_cell_is_measured_by_itself_and_given_up(clock):
    """4 images are timed of 6: 1000 steps of 0.1 s for each image are 600 s, with 1.5 times what comes before."""
    plan = plan_of(quick={"steps": 1}, slow={"steps": 1000, "seconds": 0.1, "before": 2.0}, no={"refuses": True})
    Slow.finished = 0
    quick, slow, no = estimate(plan, make_cells(plan))
    assert quick.seconds == pytest.approx(0, abs=1e-9) and no.seconds is None
    assert slow.seconds == pytest.approx(600 + 1.5 * 2.0)
    assert Slow.finished == 1 and clock[0] < 4, "the slow one was given up after two steps and the budget"


def test_what_ends_within_the_budget_is_known_exactly(clock):
    plan = plan_of(short={"steps": 3, "seconds": 0.01})
    (cell,) = estimate(plan, make_cells(plan))
    assert cell.seconds == pytest.approx(6 * 3 * 0.01)


def test_what_is_done_takes_no_time(clock):
    plan = plan_of(slow={"steps": 3, "seconds": 0.01})
    done = [("a", "slow", name, 0) for name in plan.names]
    (none,) = estimate(plan, make_cells(plan, done[:6]))
    (half,) = estimate(plan, make_cells(plan, done[:3]))
    assert none.seconds == 0 and half.seconds == pytest.approx(3 * 3 * 0.01) and half.images == 3
