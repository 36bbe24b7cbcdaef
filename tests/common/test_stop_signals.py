"""From its first statement on, every entry point ends with 75 on TERM and USR1."""

import ast
import os
import signal

import pytest
from helpers import ROOT

from common.errors import EXIT_PREEMPTED
from common.stop_signals import STOPS, answer_stop_signals


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_with_75_and_a_sentence(number, capsys):
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
    assert leaving.value.code == EXIT_PREEMPTED and cleaned == [True]
    assert capsys.readouterr().err == f"error: stopped by {number.name}; do it again\n"


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "restore.py", "sweep.py"])
def test_it_is_the_first_statement_of_every_entry_point(script):
    tree = ast.parse((ROOT / script).read_text())
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert ast.unparse(main.body[0]).startswith("answer_stop_signals("), ast.unparse(main.body[0])
    assert len((ROOT / script).read_text().splitlines()) < 150
