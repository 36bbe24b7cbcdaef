"""The moment when the processes of a run meet: said where it takes long, and not for ever."""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from common.errors import EXIT_LOST, fail

SAY_AFTER, END_AFTER = 30.0, 300.0  # seconds


class Meeting:
    """In place of the strategy's ``setup_environment``, which waits for half an hour for a process that never comes:
    every process that is there says so, and they end together.
    """

    def __init__(self, strategy: Any, world: int, end: Callable[[int], object] = os._exit) -> None:
        self._strategy, self._inner, self._world, self._end = strategy, strategy.setup_environment, world, end

    def __call__(self) -> None:
        met = threading.Event()
        threading.Thread(target=self._wait, args=(met,), daemon=True, name="meeting").start()
        try:
            self._inner()
        finally:
            met.set()

    def _wait(self, met: threading.Event) -> None:
        if met.wait(SAY_AFTER):
            return
        place = self._strategy.cluster_environment
        who = f"rank {self._strategy.global_rank} of {self._world} ({socket.gethostname()}, process {os.getpid()})"
        where = f"{place.main_address}:{place.main_port}"
        print(f"{who} waits at {where} for those that do not say so", flush=True)
        if not met.wait(END_AFTER - SAY_AFTER):
            fail(
                f"{who} has waited at {where} for {END_AFTER:.0f} s: a process that did not say so did not start, or"
                " its node does not reach this one; the same command again tries anew"
            )
            self._end(EXIT_LOST)


def bound_meeting(trainer: pl.Trainer) -> None:
    """Put a :class:`Meeting` before a trainer of several processes."""
    if trainer.world_size > 1:
        strategy: Any = trainer.strategy
        strategy.setup_environment = Meeting(strategy, trainer.world_size)
