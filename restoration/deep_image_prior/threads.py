"""Several iterative fits at a time on a CPU, each on one thread: small networks keep a core busy, and do not keep
several busy together.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def side_by_side(jobs: Iterable[Callable[[], Iterator[T]]], *, workers: int) -> Iterator[tuple[int, T]]:
    """(number of the job, what it gave) for everything that the jobs give, in the order in which it comes; `workers` of
    them run at a time.

    jobs: functions that give an iterator; each is called, run to its end and closed in one thread, whose operations
    have one thread of their own. A job is started when the one before it on its thread has ended. workers: 1 runs the
    jobs here, one after the other, with all threads. What a job raises ends the others at their next item and is raised
    here; leaving the loop ends all of them. ValueError where workers is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1:
        for number, job in enumerate(jobs):
            for item in job():
                yield number, item
        return
    yield from _threaded(list(jobs), workers)


def _threaded(jobs: list[Callable[[], Iterator[Any]]], workers: int) -> Iterator[tuple[int, Any]]:
    todo: queue.SimpleQueue[tuple[int, Callable]] = queue.SimpleQueue()
    for numbered in enumerate(jobs):
        todo.put(numbered)
    # so that no job runs ahead of whoever looks
    given: queue.Queue[tuple[int | None, Any]] = queue.Queue(maxsize=workers)
    stop = threading.Event()
    before = torch.get_num_threads()

    def put(entry: tuple[int | None, Any]) -> None:
        while not stop.is_set():
            try:
                return given.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        torch.set_num_threads(1)
        try:
            while not stop.is_set():
                try:
                    number, job = todo.get_nowait()
                except queue.Empty:
                    break
                items = job()
                try:
                    for item in items:
                        put((number, item))
                        if stop.is_set():
                            break
                finally:
                    if hasattr(items, "close"):
                        items.close()
            put((None, None))
        except BaseException as error:
            put((None, error))

    threads = [threading.Thread(target=work, name=f"fit-{k}", daemon=True) for k in range(min(workers, len(jobs)))]
    try:
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            number, item = given.get()
            if number is not None:
                yield number, item
                continue
            running -= 1
            if item is not None:
                raise item
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        torch.set_num_threads(before)
