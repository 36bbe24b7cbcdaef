"""Jobs side by side on threads: everything arrives, nobody runs ahead, errors and early ends reach all of them."""

import threading
import time

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from networks.untrained.skip import SkipArchitecture
from restoration.deep_image_prior.threads import side_by_side
from restoration.dip import DIP
from restoration.stopping.fixed import FixedIterations


def counting(start: int, count: int, seen: list[int] | None = None):
    def job():
        for k in range(start, start + count):
            if seen is not None:
                seen.append(k)
            yield k

    return job


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_everything_arrives_in_the_order_of_its_job(workers: int):
    found: dict[int, list[int]] = {}
    for number, item in side_by_side([counting(10 * k, k) for k in range(6)], workers=workers):
        found.setdefault(number, []).append(item)
    assert found == {k: list(range(10 * k, 11 * k)) for k in range(1, 6)}
    assert list(side_by_side([], workers=workers)) == []


def test_so_many_run_at_a_time_and_with_one_thread_each():
    running, most, lock = 0, 0, threading.Lock()
    threads = set()

    def job():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        for _ in range(3):
            threads.add((threading.current_thread().name, torch.get_num_threads()))
            time.sleep(0.005)
            yield 0
        with lock:
            running -= 1

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len(list(side_by_side([job] * 6, workers=2))) == 18
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert most == 2 and threads == {("fit-0", 1), ("fit-1", 1)}


def test_nobody_runs_ahead():
    seen: list[int] = []
    items = side_by_side([counting(0, 1000, seen), counting(0, 1000, seen)], workers=2)
    for taken, _ in enumerate(items, 1):
        time.sleep(0.001)
        assert len(seen) <= taken + 2 * 2 + 2
        if taken == 30:
            break
    items.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_all(workers: int):
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    def broken():
        yield 1
        raise ZeroDivisionError("at the second item")

    jobs = [broken, endless] if workers > 1 else [broken]
    with pytest.raises(ZeroDivisionError, match="second item"):
        list(side_by_side(jobs, workers=workers))
    assert closed == [True] * (workers - 1)
    assert not any(t.name.startswith("fit-") for t in threading.enumerate())


def test_leaving_the_loop_closes_the_jobs():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    items = side_by_side([endless, endless, endless], workers=2)
    next(items)
    items.close()
    assert closed == [True, True] and not any(t.name.startswith("fit-") for t in threading.enumerate())
    with pytest.raises(ValueError, match="workers"):
        list(side_by_side([], workers=0))


@pytest.mark.parametrize("together", [1, 2])
def test_restorations_side_by_side_are_those_one_after_the_other(together: int):
    """Float64, each image with its own networks: the same samples, notes and curves; progress never goes back."""
    random = RandomStreams(1)
    x = torch.stack([random.uniform("x", i, 0, (1, 16, 16)) for i in (3, 4, 5)]).double() * 2 - 1
    m = measure(x, degradation=Identity(), noise=GaussianNoise(sigma_255=10), index=[3, 4, 5], random=random)
    recipe = SkipArchitecture(preset="small", channels=[4, 6], skip=[2, 2], inputs=3)
    options = {
        "architecture": recipe,
        "iterations": 12,
        "stopping": FixedIterations(iterations=9),
        "together": together,
    }
    steps: list[int] = []
    alone = DIP(workers=1, **options).restore(m, num_samples=2, random=random)
    side = DIP(workers=3, **options).restore(
        m, num_samples=2, random=random, on_step=lambda step, of, _: steps.append(step)
    )
    torch.testing.assert_close(side.samples, alone.samples, rtol=0, atol=1e-10)
    assert side.notes == alone.notes and side.trace.keys() == alone.trace.keys()
    for name, values in alone.trace.items():
        assert side.trace[name] == pytest.approx(values, nan_ok=True)
    assert steps == sorted(steps) and steps[0] >= 0 and steps[-1] < 6 * 12
    with pytest.raises(ValueError, match="workers"):
        DIP(workers=0)
