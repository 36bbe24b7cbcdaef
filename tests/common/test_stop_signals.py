"""From its first statement on, every entry point ends with 75 on TERM and USR1."""

import ast
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT

from common.errors import EXIT_PREEMPTED
from common.private_names import handlers_in
from common.stop_signals import STOPS, answer_stop_signals, asked_to_stop, stopped_afterwards


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_with_75_and_a_sentence(number, capsys):
    assert asked_to_stop() is None  # whatever other tests in this process did
    before = {s: signal.getsignal(s) for s in STOPS}
    cleaned = []
    try:
        answer_stop_signals("do it again")
        with pytest.raises(SystemExit) as leaving:
            try:
                os.kill(os.getpid(), number)
            finally:
                cleaned.append(True)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    assert leaving.value.code == EXIT_PREEMPTED and cleaned == [True] and asked_to_stop() == number
    assert capsys.readouterr().err == f"error: stopped by {number.name}; do it again\n"


def test_what_must_be_whole_is_whole_before_it_ends(capsys):
    before, done = {s: signal.getsignal(s) for s in STOPS}, []
    try:
        answer_stop_signals()
        with pytest.raises(SystemExit) as leaving, stopped_afterwards():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)
            done.append(True)
        with stopped_afterwards():  # nobody asked
            done.append(True)
        again = [signal.getsignal(s) for s in STOPS]
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    assert leaving.value.code == EXIT_PREEMPTED and done == [True, True] and len({*again}) == 1
    assert capsys.readouterr().err == "error: stopped by SIGTERM; run the same command again to go on\n"


BUSY = """
import hashlib, threading
from common import stop_signals
stop_signals.PATIENCE = 0.3
stop_signals.answer_stop_signals()
threading.Timer(0.5, print, ["ready"], {"flush": True}).start()  # not before the main thread is in C
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # like a rendezvous: minutes in C, where no handler of Python runs
"""


def test_a_program_that_does_not_come_to_it_ends_all_the_same():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, text=True, **pipes)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == EXIT_PREEMPTED
    assert err == "error: stopped by SIGUSR1 while waiting; run the same command again to go on\n"


BEHIND = """
import hashlib, signal
from common import stop_signals
stop_signals.PATIENCE = 0.3
stop_signals.answer_stop_signals()
class Composed:
    def __init__(self, *handlers):
        self.signal_handlers = handlers
    def __call__(self, *what):
        for handler in self.signal_handlers:
            handler(*what)
def broadcast(*_):
    print("broadcasts", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # which the other processes never join
signal.signal(signal.SIGTERM, Composed(broadcast, signal.getsignal(signal.SIGTERM)))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_handler_of_lightning_before_it_does_not_hold_it_up():
    """Between Lightning's start of a trainer and the first step, and in all of predict: one of two processes is told,
    and Lightning's handler waits in a broadcast.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", BEHIND], cwd=ROOT, text=True, **pipes)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (EXIT_PREEMPTED, "broadcasts\n")
    assert err == "error: stopped by SIGTERM while waiting; run the same command again to go on\n"


def test_lightning_keeps_handlers_where_they_are_looked_for():
    from lightning.pytorch.trainer.connectors.signal_connector import _HandlersCompose

    def first(*_): ...
    def second(*_): ...

    composed = _HandlersCompose([first, second])
    assert handlers_in(composed) == [composed, first, second] and handlers_in(signal.SIG_DFL) == [signal.SIG_DFL]


FIRST = """
import runpy, sys
from common import stop_signals
def answer(*_):
    print(*{name.partition(".")[0] for name in sys.modules})
    raise SystemExit(0)
stop_signals.answer_stop_signals = answer
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "restore.py", "sweep.py"])
def test_nothing_heavy_is_imported_before(script):
    found = subprocess.run([sys.executable, "-c", FIRST, script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "lightning", "wandb", "PIL", "scipy"} & set(found.stdout.split())


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "restore.py", "sweep.py"])
def test_it_is_the_first_statement_of_every_entry_point(script):
    tree = ast.parse((ROOT / script).read_text())
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert ast.unparse(main.body[0]).startswith("answer_stop_signals("), ast.unparse(main.body[0])
    assert len((ROOT / script).read_text().splitlines()) < 150
