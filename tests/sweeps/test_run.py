"""The loop: several at once, goes on after a stop, names what failed; with a script of a few lines in place of a
training.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from common.errors import UserError
from sweeps.expand import Sweep, read_sweep
from sweeps.run import Runner, command_of, selected
from sweeps.state import Places

# Fails where x is 2; waits for a file "go" where x is 3, and leaves with 75 on SIGTERM; else writes its environment.
SCRIPT = """
import argparse, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int), parser.add_argument("--output", type=pathlib.Path)
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
print("began", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
(args.output / "pid").write_text(str(os.getpid()))
while args.x == 3 and not (args.output.parent / "go").exists():
    time.sleep(0.02)
if args.x == 2:
    sys.exit("error: two is too many")
(args.output / "threads").write_text(os.environ["OMP_NUM_THREADS"])
"""


@pytest.fixture
def make(tmp_path):
    """A sweep over values of x, and where its runs lie."""
    script = tmp_path / "toy.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def sweep(values: list[int]) -> tuple[Sweep, Places]:
        content = {
            "program": str(script),
            "method": "grid",
            "metric": {"name": "m", "goal": "minimize"},
            "parameters": {"x": {"values": values}},
        }
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**content, "command": ["${env}", "python", "${program}", "${args}"]}))
        read = read_sweep(path)
        return read, Places(read, tmp_path / "out")

    return sweep


def test_all_run_and_none_twice(make):
    sweep, places = make([1, 4, 5])
    said: list[str] = []
    assert Runner(sweep, places, jobs=2, threads=3, say=said.append).run(sweep.combinations) == 0
    assert [(places.run(c) / "threads").read_text() for c in sweep.combinations] == ["3"] * 3
    assert [places.state(c).status for c in sweep.combinations] == ["finished"] * 3 and len(said) == 3
    assert "3 of 3 finished" in said[-1] and "left" not in said[-1] and "left" in said[0]
    pids = [(places.run(c) / "pid").read_text() for c in sweep.combinations]
    assert Runner(sweep, places, say=said.append).run(sweep.combinations) == 0
    assert [(places.run(c) / "pid").read_text() for c in sweep.combinations] == pids and "finished already" in said[-1]


def test_a_run_whose_folder_was_removed_runs_again(make):
    """It was finished, and nothing is left of it: the table would have a gap that the same command does not fill."""
    sweep, places = make([1, 4])
    assert Runner(sweep, places, say=lambda _: None).run(sweep.combinations) == 0
    shutil.rmtree(places.run(sweep.combinations[0]))
    assert [places.state(c).status for c in sweep.combinations] == ["missing", "finished"]
    assert Runner(sweep, places, say=lambda _: None).run(sweep.combinations) == 0
    assert places.run(sweep.combinations[0]).exists()


def test_a_failure_is_named_and_the_others_go_on(make):
    sweep, places = make([1, 2, 4])
    said: list[str] = []
    assert Runner(sweep, places, say=said.append).run(sweep.combinations) == 1
    assert [places.state(c).status for c in sweep.combinations] == ["finished", "failed", "finished"]
    assert said[-1] == f"failed: x_2: error: two is too many (all of it: {places.output}/.sweep/x_2.log)"


def test_what_another_job_runs_is_left_to_it(make):
    """Two jobs of one folder: neither runs what the other one does, nor says of it that it failed."""
    sweep, places = make([3, 4])
    first, said = Runner(sweep, places, say=lambda _: None), []
    waits = sweep.combinations[0]
    (places.output / ".sweep").mkdir(parents=True)
    assert first._claim(waits)
    first._start(waits)
    assert Runner(sweep, places, say=said.append).run(sweep.combinations) == 1
    assert said[-1] == "x_3: is run by another job, which this one leaves it to"
    assert [places.state(c).status for c in sweep.combinations] == ["missing", "finished"]
    (places.output / "go").touch()
    first._running[0].process.wait(60)
    assert first._end(first._running[0]) == "finished"
    assert Runner(sweep, places, say=said.append).run(sweep.combinations) == 0 and said[-1].startswith("2 of 2")


def test_a_result_belongs_to_its_command(make):
    sweep, places = make([1, 4])
    assert Runner(sweep, places, say=lambda _: None).run(sweep.combinations) == 0
    # The same name with another command: as after a change of the file.
    other = type(sweep.combinations[0])(
        number=0, name="x_1", options={"x": 1}, words=(*sweep.combinations[0].words, "--more")
    )
    assert places.state(other).status == "outdated"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_loop_stops_its_runs_and_goes_on(make, number):
    sweep, places = make([3, 4])
    code = (
        "import sys; from sweeps.expand import read_sweep; from sweeps.run import Runner; from sweeps.state import"
        " Places\n"
    )
    code += (
        f"s = read_sweep({str(sweep.path)!r}); sys.exit(Runner(s, Places(s,"
        f" {str(places.output)!r})).run(s.combinations))"
    )
    loop = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    pid = places.run(sweep.combinations[0]) / "pid"
    _wait(lambda: pid.exists() and pid.read_text())
    loop.send_signal(number)
    assert loop.wait(timeout=60) == (75 if number == signal.SIGTERM else -number)
    _wait(lambda: not _lives(int(pid.read_text())))
    assert places.state(sweep.combinations[0]).status == ("interrupted" if number == signal.SIGTERM else "missing")
    assert not places.run(sweep.combinations[1]).exists()
    (places.output / "go").touch()
    assert Runner(sweep, places, say=lambda _: None).run(sweep.combinations) == 0
    assert places.log(sweep.combinations[0]).read_text().count("began") == 2


def test_one_or_some_can_be_chosen(make):
    sweep, _ = make([1, 4, 14])
    assert [c.name for c in selected(sweep, only="4")] == ["x_4", "x_14"]
    assert [c.name for c in selected(sweep, only="x_?")] == ["x_1", "x_4"]
    assert [c.name for c in selected(sweep, number=2)] == ["x_14"]
    for wrong in ({"only": "y"}, {"number": 3}):
        with pytest.raises(UserError, match="no combination"):
            selected(sweep, **wrong)


def test_a_training_is_told_its_folder_and_its_group(make):
    sweep = read_sweep(ROOT / "configs/sweeps/ddpm_mnist_ablation.yaml")
    first = sweep.combinations[0]
    command = command_of(sweep, first, Places(sweep))
    assert command[:3] == [sys.executable, "train.py", "fit"]
    assert command[-3:] == [
        f"--run=runs/sweeps/ddpm_mnist_ablation/{first.name}",
        "--wandb.group=ddpm_mnist_ablation",
        "--wandb.tags=[sweep]",
    ]


def _wait(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
