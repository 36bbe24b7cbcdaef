"""Whether a process is there, and questions that nobody answers."""

import os
import subprocess
import sys
import time

from common.other_processes import lives, process_space, within


def test_a_process_that_has_ended_does_not_live():
    """Also before its parent has asked for its exit code."""
    assert lives(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    end = time.monotonic() + 60
    while lives(child.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not lives(child.pid) and child.returncode is None
    child.wait()
    assert not lives(child.pid)


def test_processes_of_one_machine_are_of_one_space():
    code = "from common.other_processes import process_space; print(process_space())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == process_space()


def test_nobody_waits_for_an_answer_that_does_not_come(capfd):
    begun, said = time.monotonic(), []
    within(0.2, lambda: time.sleep(5))
    assert 0.2 <= time.monotonic() - begun < 4
    within(5.0, lambda: said.append(1))
    within(5.0, lambda: 1 / 0)
    assert said == [1] and capfd.readouterr().err == ""
