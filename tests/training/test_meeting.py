"""Processes that wait for one that never comes say so and end; those that meet say nothing."""

import threading
import time
from types import SimpleNamespace

from training import meeting


def strategy(wait: float):
    place = SimpleNamespace(main_address="node1", main_port=29500)
    return SimpleNamespace(setup_environment=lambda: time.sleep(wait), cluster_environment=place, global_rank=2)


def test_a_long_wait_is_said_and_has_an_end(monkeypatch, capsys):
    monkeypatch.setattr(meeting, "SAY_AFTER", 0.1)
    monkeypatch.setattr(meeting, "END_AFTER", 0.3)
    codes, ended = [], threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    waiting = strategy(0.0)
    waiting.setup_environment = lambda: ended.wait(60)
    meeting.Meeting(waiting, 4, end)()
    assert codes == [1]
    out, err = capsys.readouterr()
    assert out.startswith("rank 2 of 4 (") and "waits at node1:29500 for those that do not say so" in out
    assert err.startswith("error: rank 2 of 4 (") and "the same command again" in err


def test_those_that_meet_say_nothing(capsys):
    codes = []
    meeting.Meeting(strategy(0.0), 4, codes.append)()
    assert codes == [] and capsys.readouterr() == ("", "")


def test_one_process_meets_nobody():
    alone = SimpleNamespace(world_size=1, strategy=strategy(0.0))
    before = alone.strategy.setup_environment
    meeting.bound_meeting(alone)
    assert alone.strategy.setup_environment is before
    alone.world_size = 2
    meeting.bound_meeting(alone)
    assert isinstance(alone.strategy.setup_environment, meeting.Meeting)
