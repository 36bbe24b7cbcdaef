"""What the drills of drills.py do to a job on a real SLURM, by name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cluster.one_machine import OneMachine

from common.errors import UserError
from studies.faults.moments import answers, lines, processes_of
from studies.faults.programs import ROOT, inputs_of

PATIENCE = 1500.0
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED")
SMALL = ("--parsable", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1", "--time=25")


class Drill:
    """One job, or one array, in a folder of its own."""

    def __init__(self, cluster: OneMachine, folder: Path) -> None:
        self.cluster, self.folder, self.run, self.go = cluster, folder, folder / "run", folder / "go"
        self.number, self.submitted = "", 0

    def config(self, *, validation: float = 0.0) -> Path:
        """Of the training: a second a step until `go` is there, or so many for a batch of a validation."""
        content = yaml.safe_load((inputs_of(self.folder) / "train.yaml").read_text())
        slow = {"file": str(self.go), "validation": validation}
        content["trainer"]["callbacks"] = [{"class_path": "cluster.slow_until.SlowUntil", "init_args": slow}]
        if validation:
            content["data"]["init_args"]["validation"] = 24
        path = self.folder / "train.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    @property
    def environment(self) -> dict[str, str]:
        own = {"PYTHON": sys.executable, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        return {**own, "PYTHONPATH": paths, "DATA_DIR": str(inputs_of(self.folder) / "data")}

    def submit(self, *words: object) -> None:
        """sbatch ...; what it prints is in `log`."""
        output = () if any(str(word).startswith("--array") for word in words) else (f"--output={self.log}",)
        # sbatch takes the output's name from the script of an array
        self.number = self.cluster("sbatch", *SMALL, *output, *words, **self.environment).split(";")[0]
        self.submitted += 1

    def train(self, *options: str, config: Path | None = None) -> None:
        words = ("configs/cluster/slurm.sh", "--config", config or self.config(), "--run", self.run)
        self.submit(*options, *words)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def wait(self, until: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > end:
                said = self.log.read_text()[-1500:] if self.log.exists() else ""
                raise UserError(f"{what} did not come: {said} {self.job()}")
            time.sleep(0.2)

    def job(self) -> dict[str, str]:
        return self.cluster.job(self.number)

    def trained(self, steps: int = 3) -> None:
        """Wait until so many steps have their rows."""
        self.wait(lambda: lines(self.run / "metrics.csv") >= steps, f"step {steps}")

    def started_again(self) -> None:
        self.wait(lambda: int(self.job().get("Restarts", "0")) > 0, "the next start")

    def finish(self) -> dict[str, str]:
        """Slow no more; how the job ended."""
        self.go.touch()
        self.wait(lambda: self.job()["JobState"] in ENDED, "the end")
        return self.job()

    def take_the_nodes(self, seconds: int = 5) -> None:
        """A more urgent job on both nodes."""
        words = ["--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null"]
        self.cluster("sbatch", *words, f"--wrap=sleep {seconds}")

    def tasks(self) -> list[int]:
        """The processes of Python that train, without srun and the script."""
        found = []
        for pid in processes_of(self.folder):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == sys.executable.encode():
                found.append(pid)
        return found


def time_limit(drill: Drill) -> None:
    """The time limit comes nearer than the 60 s of the signal."""
    drill.train("--signal=USR1@60")
    drill.trained()
    shorten(drill)
    drill.started_again()
    drill.cluster("scontrol", "update", f"JobId={drill.number}", "TimeLimit=25")


def shorten(drill: Drill) -> None:
    hours, minutes, _ = map(int, drill.job()["RunTime"].split(":"))
    drill.cluster("scontrol", "update", f"JobId={drill.number}", f"TimeLimit={60 * hours + minutes + 1}")


def in_a_validation(drill: Drill, *options: str) -> None:
    """It is in a validation that takes 15 minutes, of which 60 s are left."""
    drill.train(*options, "--signal=USR1@60", config=drill.config(validation=60.0 if options else 300.0))
    drill.trained(10)
    time.sleep(10)
    shorten(drill)
    drill.started_again()
    drill.cluster("scontrol", "update", f"JobId={drill.number}", "TimeLimit=25")


def preemption(drill: Drill) -> None:
    drill.train("--nodes=2")
    drill.trained()
    drill.take_the_nodes()
    drill.started_again()


def requeue(drill: Drill) -> None:
    drill.train()
    drill.trained()
    drill.cluster("scontrol", "requeue", drill.number)
    drill.started_again()


def node_down(drill: Drill) -> None:
    drill.train()
    drill.trained()
    node = drill.job()["NodeList"]
    drill.cluster("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=drill")
    drill.started_again()
    drill.cluster("scontrol", "update", f"NodeName={node}", "State=RESUME")


def controller_killed(drill: Drill) -> None:
    """While it is away the job goes on; afterwards it can still be stopped and queued again."""
    drill.train()
    drill.trained()
    drill.cluster.kill_controller()
    time.sleep(5)
    drill.cluster.start_controller()
    drill.trained(lines(drill.run / "metrics.csv") + 2)
    drill.cluster("scancel", "--signal=TERM", drill.number)
    drill.started_again()


def task_killed(drill: Drill) -> None:
    """One of two tasks is killed: the job fails, and is submitted again by hand."""
    drill.train("--nodes=2")
    drill.trained(12)
    os.kill(drill.tasks()[-1], signal.SIGKILL)
    begun = time.monotonic()
    drill.wait(lambda: drill.job()["JobState"] in ENDED, "the end of the job that lost a task")
    print(f"a lost task ended the job after {time.monotonic() - begun:.0f} s: {drill.job()['ExitCode']}", flush=True)
    drill.train("--nodes=2")


def early_term(drill: Drill) -> None:
    """As soon as one of two tasks has its first handler."""
    drill.train("--nodes=2")
    drill.wait(lambda: any(answers(pid) for pid in drill.tasks()), "the first handler")
    drill.cluster("scancel", "--signal=TERM", drill.number)
    drill.started_again()


def more_processes(drill: Drill) -> None:
    """Stopped on one node, it goes on on two."""
    drill.train()
    drill.trained()
    drill.cluster("scancel", "--signal=USR1", drill.number)
    drill.started_again()
    drill.cluster("scancel", drill.number)
    drill.wait(lambda: drill.job()["JobState"] in ENDED and not drill.tasks(), "the end of the first job")
    drill.train("--nodes=2")


def torchrun(drill: Drill) -> None:
    """torchrun on two nodes, a task of srun for each; a signal to the job, and the same job again."""
    script = drill.folder / "job.sh"
    words = f"configs/cluster/torchrun.sh --config {drill.config()} --run {drill.run}"
    port = 20000 + int(time.time()) % 10000
    script.write_text(f"#!/bin/bash\nGPUS=1 NODES=2 HEAD=127.0.0.1:{port} exec srun --ntasks=2 --wait=0 {words}\n")
    for _ in range(2):
        drill.submit("--nodes=2", script)
        if drill.submitted == 1:
            drill.trained()
            drill.cluster("scancel", "--signal=USR1", drill.number)
            drill.wait(lambda: drill.job()["JobState"] in ENDED, "the end of the first job")
            if drill.job()["ExitCode"] != "75:0":
                raise UserError(f"the first job ended with {drill.job()['ExitCode']}")


def workstation(drill: Drill) -> None:
    """As a job of one node with two processes that Lightning starts itself; SLURM's variables are not for it."""
    script = drill.folder / "job.sh"
    words = f"configs/cluster/workstation.sh --config {drill.config()} --run {drill.run}"
    hidden = "for name in ${!SLURM_@}; do unset $name; done"
    script.write_text(f"#!/bin/bash\n{hidden}\nGPUS=2 exec {words}\n")
    drill.submit(script)
    drill.trained()
    drill.cluster("scancel", "--signal=TERM", "--full", drill.number)
    drill.wait(lambda: drill.job()["JobState"] in ENDED, "the end of the first job")
    if drill.job()["ExitCode"] != "75:0":
        raise UserError(f"the first job ended with {drill.job()['ExitCode']}")
    drill.submit(script)


def array(drill: Drill) -> list[dict[str, str]]:
    """The tasks of the array."""
    text = drill.cluster("scontrol", "show", "job", drill.number)
    return [dict(w.split("=", 1) for w in part.split() if "=" in w) for part in text.split("\n\n") if part.strip()]


def array_ends(drill: Drill) -> None:
    drill.wait(lambda: sum(int(task.get("Restarts", "0")) for task in array(drill)) > 1, "both next starts")
    drill.go.touch()
    drill.wait(lambda: all(task["JobState"] in ENDED for task in array(drill)), "the end of the array")


def sweep_array(drill: Drill) -> None:
    """The array of a sweep loses its nodes to a more urgent job."""
    content = yaml.safe_load((inputs_of(drill.folder) / "sweep.yaml").read_text())
    content["command"] = [drill.config() if str(word).endswith("train.yaml") else word for word in content["command"]]
    content["command"] = [str(word) for word in content["command"]]
    path = drill.folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    words = ["sweep.py", "slurm", path, f"--output={drill.run}", "--time=25", "--gpus=0", "--cpus=1", "--memory=500M"]
    script = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **drill.environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (drill.folder / "sweep.sbatch").write_text(script)
    drill.number = drill.cluster("sbatch", "--parsable", drill.folder / "sweep.sbatch", **drill.environment)
    drill.submitted += 1
    for name in ("v", "epsilon"):
        drill.wait(lambda name=name: lines(drill.run / name / "metrics.csv") >= 3, f"the training of {name}")
    drill.take_the_nodes()
    array_ends(drill)


def evaluation_array(drill: Drill) -> None:
    """Both tasks of the array are stopped by TERM, and the last of them joins the rows."""
    config = inputs_of(drill.folder) / "evaluate.yaml"
    options = ("--array=0-1", f"--output={drill.folder}/%a.out", "--gpus=0")
    words = ("configs/cluster/evaluate_array.sh", "--config", config, "--output", drill.run)
    drill.submit(*options, *words)
    rows = [drill.run / "shards" / f"{k}_of_2" / "rows.csv" for k in (0, 1)]
    drill.wait(lambda: all(lines(path) >= 1 for path in rows), "the rows of both shares")
    drill.cluster("scancel", "--signal=TERM", drill.number)
    array_ends(drill)


ONE, TWO = "train", "train, 2 processes"
CLOSE = "train, 2 processes, closely"  # other sums

#: name: (what happens, job script, the undisturbed program that it is compared with)
DRILLS: dict[str, tuple[Callable[[Drill], None], str, str]] = {
    "time limit": (time_limit, "slurm.sh", ONE),
    "time limit in a long validation": (in_a_validation, "slurm.sh", ONE),
    "time limit in a long validation, two nodes": (lambda d: in_a_validation(d, "--nodes=2"), "slurm.sh", TWO),
    "preemption by a higher priority, two nodes": (preemption, "slurm.sh", TWO),
    "scontrol requeue": (requeue, "slurm.sh", ONE),
    "node down": (node_down, "slurm.sh", ONE),
    "controller killed and started again, then TERM": (controller_killed, "slurm.sh", ONE),
    "one of two tasks killed, submitted again": (task_killed, "slurm.sh", TWO),
    "TERM at the start, two nodes": (early_term, "slurm.sh", TWO),
    "stopped on one node, goes on on two": (more_processes, "slurm.sh", CLOSE),
    "torchrun on two nodes, stopped, submitted again": (torchrun, "torchrun.sh", TWO),
    "two processes of one machine, stopped, submitted again": (workstation, "workstation.sh", TWO),
    "array of a sweep preempted": (sweep_array, "sweep.py slurm", "sweep"),
    "array of an evaluation, TERM": (evaluation_array, "evaluate_array.sh", "evaluate"),
}
