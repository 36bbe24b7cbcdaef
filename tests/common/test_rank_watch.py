"""Who is lost, of several processes: the rule on made-up beats, and beats through a real store."""

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from common import rank_watch
from common.rank_watch import (
    BACKWARD,
    DATA,
    ELSEWHERE,
    EVERY,
    FAILED,
    FORWARD,
    LEFT,
    OF_ITS_OWN,
    Beat,
    RankWatch,
    Seen,
    verdict,
)


def seen(place: int, *, batches: int = 5, heard: float = 99.0, moved: float = 99.0, line: str = "x.py:1") -> Seen:
    return Seen(Beat(1, batches, place, step=batches, line=line), heard, moved)


def judged(*beats: Seen, **options):
    return verdict(beats, 100.0, **{"patience": 45.0, **options})


@pytest.mark.parametrize(
    ("beats", "options", "ranks", "word"),
    [
        ([seen(BACKWARD), seen(BACKWARD, heard=50)], {}, [1], "has not been heard of for 50 s, last at step 5"),
        ([seen(BACKWARD, moved=40), seen(FORWARD, moved=40)], {}, [1], "in the forward pass of step 5 for 60 s (x.py"),
        ([seen(BACKWARD, moved=40), seen(ELSEWHERE, batches=4, moved=0)], {}, None, "a grid takes its time"),
        ([seen(BACKWARD, moved=40), seen(BACKWARD, moved=40, line="y.py:2")], {}, [0, 1], "(x.py:1, y.py:2)"),
        ([seen(BACKWARD, moved=40), seen(FORWARD, moved=40)], {"longest": 7.0}, None, "steps are long"),
        ([seen(BACKWARD, moved=40), seen(DATA, moved=40)], {}, None, "the disk is slow"),
        ([seen(BACKWARD, moved=-200), seen(DATA, moved=-200)], {}, [1], "waiting for its data of step 5 for 300 s"),
        ([seen(BACKWARD), seen(FAILED, heard=85)], {}, [1], "ended with an error of its own"),
        ([seen(BACKWARD), seen(FAILED)], {}, None, "the others may come to theirs"),
        ([seen(BACKWARD), seen(LEFT, heard=0)], {}, None, "it is done"),
        ([seen(LEFT, heard=0), seen(LEFT, heard=0)], {}, None, "all are done"),
        ([seen(BACKWARD, heard=40), seen(BACKWARD)], {"answered": 40.0}, [0], "has not answered for 60 s"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_who_is_lost(beats, options, ranks, word):
    found = judged(*beats, **options)
    if ranks is None:
        assert found is None, word
    else:
        assert found is not None and found[0] == ranks and word in found[1]


def pair(patience: float):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    other = torch.distributed.TCPStore("127.0.0.1", store.port, timeout=timedelta(seconds=30))
    lost: list[tuple[str, list[int]]] = []
    watches = [
        RankWatch(s, rank, 2, patience=patience, on_lost=lambda message, ranks: lost.append((message, ranks)))
        for rank, s in enumerate((store, other))
    ]
    return watches, lost


def until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_beats_pass_through_a_store_and_a_silent_process_is_named():
    (first, second), lost = pair(patience=4.0)
    for watch in (first, second):
        watch.start()
    for step in range(3):
        for watch in (first, second):
            watch.at(DATA, batch=True, step=step)
            watch.at(ELSEWHERE, step=step)
    time.sleep(3.0)
    assert lost == [] and first.gone() == []
    second._stop.set()  # as if its process had been stopped
    assert until(lambda: bool(lost))
    message, ranks = lost[0]
    assert ranks == [1] and message.startswith("rank 1 (") and "the same command again goes on" in message
    first.leave()


def test_a_job_that_stood_still_as_a_whole_goes_on(monkeypatch):
    """Suspended by a scheduler, or the machine slept: nobody was heard of, and nobody is lost."""
    late = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late, sleep=time.sleep)
    monkeypatch.setattr(rank_watch, "time", clock)
    (first, second), lost = pair(patience=12.0)
    for watch in (first, second):
        watch.start()
    time.sleep(1.5)
    late = 600.0
    time.sleep(5.0)
    assert lost == []
    second._stop.set()  # whoever is lost after that is still found
    assert until(lambda: bool(lost)) and lost[0][1] == [1]
    first.leave()


def test_a_process_that_hangs_in_a_step_is_named_by_both():
    (first, second), lost = pair(patience=2.0)
    for watch in (first, second):
        watch.start()
        for step in range(3):
            watch.at(DATA, batch=True, step=step)
            watch.at(ELSEWHERE, step=step)
        watch.at(DATA, batch=True, step=3)
        watch.at(FORWARD, step=3)
    first.at(BACKWARD, step=3)
    assert until(lambda: len(lost) == 2)
    assert all(ranks == [1] and "in the forward pass of step 3" in message for message, ranks in lost)


def test_a_process_that_gives_its_own_error_is_not_called_lost():
    """The first one, with which the store ends, stays until the other knows; the word of any other stays in the store,
    and is read anew by whoever finds that somebody is gone.
    """
    for failing in (0, 1):
        watches, lost = pair(patience=8.0)
        for watch in watches:
            watch.start()
        begun = time.monotonic()
        watches[failing].leave(failed=True)
        assert time.monotonic() - begun < 2 * EVERY, "it does not wait for its own sake"
        if failing == 0:
            watches[1]._stop.set()
            watches[1].store = None  # gone with the process
        found = watches[1 - failing].why_gone()
        assert found is not None and found == ([failing], OF_ITS_OWN), failing
        watches[1 - failing].end_for(*found)
        assert len(lost) == 1 and lost[0][0].startswith(f"rank {failing} (") and OF_ITS_OWN in lost[0][0]


def test_one_that_is_alone_does_not_wait_for_ever_and_a_store_that_is_gone_says_nothing(capfd):
    (first, second), _ = pair(patience=8.0)
    for watch in (first, second):
        watch.start()
        watch._stop.set()
    first.store = None
    assert first.why_gone() is None
    first.leave(failed=False)
    assert "Traceback" not in capfd.readouterr().err
    second.leave()
    (first, second), _ = pair(patience=8.0)
    first.start()
    begun = time.monotonic()
    first.leave(failed=True)  # the second one never says anything
    assert 2 * EVERY <= time.monotonic() - begun < 4 * EVERY
