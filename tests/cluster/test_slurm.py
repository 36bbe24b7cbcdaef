"""configs/cluster/slurm.sh on a real SLURM: stopped by its time limit or by TERM at its start, queued again, finished
with the weights and the rows of a run that was left alone.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cluster.one_machine import OneMachine, missing, one_machine
from helpers import ROOT, call, environment, tiny_config, write_config

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]
STEPS, PATIENCE = 100, 400


@pytest.fixture(scope="module")
def cluster() -> Iterator[OneMachine]:
    with one_machine() as found:
        yield found


@pytest.fixture
def job(tmp_path) -> tuple[Path, dict[str, str], Path]:
    """(config, environment, the file that ends the slowness) of a run of a second a step."""
    config = tiny_config(max_steps=STEPS, val_check_interval=20)
    config |= {"health": {"enabled": False}, "checkpoint": {"every_n_steps": STEPS}}
    config["wandb"] = {"mode": "offline"}  # SLURM signals every process of a step, W&B's own too
    go = tmp_path / "go"
    config["trainer"]["callbacks"] = [{"class_path": "cluster.slow_until.SlowUntil", "init_args": {"file": str(go)}}]
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHON": sys.executable, "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": os.pathsep.join(paths)}
    return write_config(tmp_path, config), {**environment(), **own}, go


def submit(cluster: OneMachine, job: tuple, *options: str) -> tuple[str, Path, Path]:
    """(number, run folder, what it prints) of a job on one of the nodes, with one task."""
    config, env, _ = job
    run, log = config.parent / "run", config.parent / "log"
    fixed = ["--parsable", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1", f"--output={log}"]
    words = ["sbatch", *fixed, *options, "configs/cluster/slurm.sh", "--config", config, "--run", run]
    return cluster(*words, **env), run, log


def wait(until: Callable[[], bool], cluster: OneMachine, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        said = log.read_text()[-3000:] if log.exists() else ""
        assert time.monotonic() < end, f"{said}\n{cluster.logs()}"
        time.sleep(0.2)


def goes_on_and_ends_as_if_nothing_was(cluster: OneMachine, job: tuple, number: str, run: Path, log: Path) -> None:
    """The job was stopped: SLURM starts it again, and it ends with what a run that was left alone has."""
    config, _, go = job
    wait(lambda: int(cluster.job(number)["Restarts"]) > 0, cluster, log)
    go.touch()
    wait(lambda: cluster.job(number)["JobState"] == "COMPLETED", cluster, log)
    assert cluster.job(number)["ExitCode"] == "0:0" and f"finished: {STEPS} steps" in log.read_text()
    assert [p.name for p in run.glob("*.json")] == ["finished.json"]
    alone = config.parent / "alone"
    result = call("train.py", "fit", "--config", config, "--run", alone, env=job[1])
    assert result.returncode == 0, result.stderr[-3000:]
    a, b = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (alone, run))
    for here, there in ((a["state_dict"], b["state_dict"]), (a["ema"]["weights"], b["ema"]["weights"])):
        assert here.keys() == there.keys() and all(torch.equal(value, there[name]) for name, value in here.items())
    assert (alone / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    assert {p.name: p.read_bytes() for p in (alone / "samples").iterdir()} == {
        p.name: p.read_bytes() for p in (run / "samples").iterdir()
    }


def test_time_limit(cluster, job):
    """SLURM sends USR1 before it: the run saves, exits with 75, and its script has it queued again."""
    number, run, log = submit(cluster, job, "--time=20", "--signal=USR1@60")
    wait(lambda: (run / "metrics.csv").exists(), cluster, log)
    hours, minutes, _ = map(int, cluster.job(number)["RunTime"].split(":"))
    cluster("scontrol", "update", f"JobId={number}", f"TimeLimit={60 * hours + minutes + 1}")
    wait(lambda: int(cluster.job(number)["Restarts"]) > 0, cluster, log)
    cluster("scontrol", "update", f"JobId={number}", "TimeLimit=20")
    goes_on_and_ends_as_if_nothing_was(cluster, job, number, run, log)
    said = log.read_text()
    stopped = int(said.split("stopped at step ")[1].split(",")[0])
    assert 0 < stopped < STEPS and f"continuing '{run}' at step {stopped}" in said, said[-3000:]


def test_term_at_the_start(cluster, job):
    """As soon as the program has its first handler, in the middle of its imports."""
    number, run, log = submit(cluster, job, "--time=20")

    def handles() -> bool:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                caught = int((process / "status").read_text().split("SigCgt:")[1].split()[0], 16)
            except (OSError, IndexError):  # it has ended
                continue
            ours = words[0].endswith(sys.executable.encode()) and b"train.py" in words and str(run).encode() in words
            if ours and caught & 1 << (signal.SIGTERM - 1):
                return True
        return False

    wait(handles, cluster, log)
    cluster("scancel", "--signal=TERM", number)
    goes_on_and_ends_as_if_nothing_was(cluster, job, number, run, log)
    assert "stopped by SIGTERM" in log.read_text() and "continuing" not in log.read_text()


def test_what_waits_for_a_training_waits_through_its_queueing_again(cluster, job):
    """As the jobs of studies.chain do: afterok is not answered by exit code 75."""
    number, run, log = submit(cluster, job, "--time=20")
    behind = ["--kill-on-invalid-dep=yes", f"--dependency=afterok:{number}"]
    behind += ["--parsable", "--time=5", "--cpus-per-task=1"]
    script = log.with_name("python")
    script.write_text("#!/bin/bash\necho it ran\n")
    script.chmod(0o755)
    said = log.with_name("behind")
    words = ["--gpus=1", f"--output={said}", "configs/cluster/python.sh", "-m", "studies.chain"]
    last = cluster("sbatch", *behind, *words, **{**job[1], "PYTHON": str(script)})
    wait(lambda: (run / "metrics.csv").exists(), cluster, log)
    cluster("scancel", "--signal=TERM", number)
    wait(lambda: int(cluster.job(number)["Restarts"]) > 0, cluster, log)
    assert cluster.job(last)["JobState"] == "PENDING" and not said.exists()
    job[2].touch()
    wait(lambda: cluster.job(last)["JobState"] == "COMPLETED", cluster, log)
    assert cluster.job(number)["JobState"] == "COMPLETED" and said.read_text() == "it ran\n"
