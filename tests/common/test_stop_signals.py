"""From its first statement on, every entry point ends with 75 on TERM and USR1."""

import ast
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT

from common.errors import EXIT_PREEMPTED
from common.stop_signals import STOPS, answer_stop_signals, asked_to_stop


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
