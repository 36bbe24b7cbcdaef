"""Before anything else: the torchvision remedy, and no network."""

import os

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import signal
import sys
from collections.abc import Iterator

import pytest
import shape_checks
from suite_options import (  # noqa: F401  (pytest looks for its hooks here)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_runtest_call,
    pytest_terminal_summary,
)

shape_checks.install()

import common.late_torchmetrics
import common.stop_signals
import common.torchvision_remedy  # must come before whatever imports torchvision


@pytest.fixture(autouse=True)
def signal_handlers_stay() -> Iterator[None]:
    """An entry point that a test calls installs handlers for the whole process, and a signal that they have answered is
    remembered: the next training in this process would take it for its own.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    common.stop_signals._asked = None  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(autouse=True)
def no_run_of_wandb_stays_open() -> Iterator[None]:
    """A run that a test leaves open would be taken by the next logger of the process, whose files then stand in another
    test's folder.
    """
    yield
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish()
