"""Real training on two processes, and a real evaluation, through the shipped scripts: stopped, queued again, continued
on another number of processes, refused.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from cluster.fake_slurm import install, requeued
from helpers import ROOT, call, environment, one_sentence, tiny_config, write_config

pytestmark = pytest.mark.slow
STEPS = 60


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def start(*command: object, **env: str) -> subprocess.Popen:
    # A group of its own, so that whatever a failed test leaves behind can be ended.
    return subprocess.Popen(
        [str(c) for c in command],
        cwd=ROOT,
        env={**environment(), "PYTHON": sys.executable, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen) -> str:
    try:
        return process.communicate(timeout=600)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_step(run: Path, process: subprocess.Popen, newer_than: int = 0) -> None:
    """Until the run has saved a checkpoint of this start."""
    path, deadline = run / "checkpoints" / "last.ckpt", time.monotonic() + 600
    while not path.exists() or path.stat().st_mtime_ns <= newer_than:
        assert process.poll() is None and time.monotonic() < deadline, end(process)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """(config without dropout, run folder) of an uninterrupted run on two processes, by workstation.sh."""
    folder = tmp_path_factory.mktemp("whole")
    config = tiny_config(max_steps=STEPS, val_check_interval=30)
    config["model"]["init_args"]["network"]["init_args"]["dropout"] = 0.0
    path = write_config(folder, config)
    process = start("configs/cluster/workstation.sh", "--config", path, "--run", folder / "run", GPUS="2")
    output = end(process)
    assert process.returncode == 0, output[-3000:]
    return path, folder / "run"


def test_a_slurm_job_is_stopped_queued_again_and_ends_with_the_same_weights(whole, tmp_path):
    config, reference = whole
    slurm, run = tmp_path / "slurm", tmp_path / "run"
    env = install(slurm, job=random.randrange(10000, 100000))  # its last digits are the port
    env["PATH"] = f"{slurm}{os.pathsep}{os.environ['PATH']}"
    submit = ["sbatch", "--ntasks-per-node=2", "configs/cluster/slurm.sh", "--config", config, "--run", run]

    first = start(*submit, **env)
    wait_for_step(run, first)
    tasks = [int(pid) for pid in (slurm / "tasks").read_text().split()]
    assert len(tasks) == 2
    for pid in tasks:
        os.kill(pid, signal.SIGSTOP)  # the run stands still while another one wants its folder
    try:
        one_sentence(call("train.py", "fit", "--config", config, "--run", run), "in use", "--run")
    finally:
        for pid in tasks:
            os.kill(pid, signal.SIGUSR1)
            os.kill(pid, signal.SIGCONT)
    output = end(first)
    assert first.returncode == 75, output[-3000:]
    assert requeued(slurm) == [f"requeue {env['FAKE_JOB_ID']}"], output[-3000:]
    stopped = checkpoint(run)["global_step"]
    assert 0 < stopped < STEPS and f"stopped at step {stopped}" in output
    assert not list(run.rglob("hpc_ckpt*")), "Lightning's own checkpoints of SLURM jobs"

    second = start(*submit, **env)
    output = end(second)
    assert second.returncode == 0 and f"at step {stopped}" in output and len(requeued(slurm)) == 1, output[-3000:]
    assert {"finished.json"} == {p.name for p in run.glob("*.json")}
    a, b = checkpoint(reference), checkpoint(run)
    assert a["images_seen"] == b["images_seen"] == STEPS * 16
    for here, there in ((a["state_dict"], b["state_dict"]), (a["ema"]["weights"], b["ema"]["weights"])):
        assert here.keys() == there.keys() and all(torch.equal(value, there[name]) for name, value in here.items())


def test_torchrun_ends_all_its_processes_and_one_process_goes_on_where_two_stopped(whole, tmp_path):
    config, reference = whole
    run = tmp_path / "run"

    def torchrun(*options: object) -> subprocess.Popen:
        return start("configs/cluster/torchrun.sh", "--config", config, "--run", run, *options, GPUS="2")

    def ended(*options: object) -> tuple[int, str]:
        process = torchrun(*options)
        output = end(process)
        return process.returncode, output

    code, output = ended("--trainer.max_steps", 4)
    assert code == 0 and "finished: 4 steps, 64 images" in output, output[-3000:]
    code, output = ended("--trainer.max_steps", 4)
    assert code == 0 and output.count("is finished: 4 steps") == 1, output[-3000:]
    code, output = ended("--model.learning_rate", 0.5)
    assert code == 1 and "learning_rate" in output and output.count("error: ") <= 2, output[-3000:]

    saved = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    longer = torchrun()
    wait_for_step(run, longer, newer_than=saved)
    agent = subprocess.run(["pgrep", "-P", str(longer.pid)], capture_output=True, text=True).stdout.split()
    workers = subprocess.run(["pgrep", "-P", agent[0]], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGUSR1)  # one process is told, both stop
    output = end(longer)
    assert longer.returncode == 75, output[-3000:]
    stopped = checkpoint(run)["global_step"]
    assert 4 < stopped < STEPS and stopped % 10 == 0 and (run / "preempted.json").exists()

    result = call("train.py", "fit", "--config", config, "--run", run)
    assert result.returncode == 0 and f"at step {stopped}" in result.stdout, result.stdout + result.stderr[-3000:]
    a, b = checkpoint(reference), checkpoint(run)
    assert a["images_seen"] == b["images_seen"]
    for name, value in a["ema"]["weights"].items():
        torch.testing.assert_close(value, b["ema"]["weights"][name], atol=1e-4, rtol=0, msg=name)


def test_an_array_evaluates_its_shares_and_its_last_task_joins_them(tmp_path):
    """configs/cluster/evaluate_array.sh with evaluate.py itself; the array counts from 1."""
    config, out, slurm = tmp_path / "few.yaml", tmp_path / "out", tmp_path / "slurm"
    task = {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}
    methods = {"back": {"class_path": "restoration.pseudo_inverse.PseudoInverse"}}
    content = {"data": "datamodules.digits.Digits", "limit": 4, "batch_size": 2, "tasks": {"noise": task}}
    config.write_text(yaml.safe_dump({**content, "methods": methods}))
    env = {**install(slurm, job=77), "SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
    env |= {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    env["PATH"] = f"{slurm}{os.pathsep}{os.environ['PATH']}"
    for number, joined in ((2, False), (1, True)):
        words = ("configs/cluster/evaluate_array.sh", "--config", config, "--output", out)
        process = start(*words, **env, SLURM_ARRAY_TASK_ID=str(number))
        output = end(process)
        assert process.returncode == 0 and f"shard {number - 1}/2: " in output, output[-3000:]
        assert (out / "table.csv").exists() is joined and requeued(slurm) == []
    assert len((out / "rows.csv").read_text().splitlines()) == 1 + 4


def test_a_stop_before_training_is_a_stop(tmp_path):
    """While libraries and data are read nothing is lost: 75, not death by the signal, after which a job would not be
    queued again.
    """
    process = start(
        sys.executable, "train.py", "fit", "--config", write_config(tmp_path, tiny_config()), "--run", tmp_path / "run"
    )
    bit, deadline = 1 << (signal.SIGUSR1 - 1), time.monotonic() + 120
    while not int(Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0], 16) & bit:
        assert process.poll() is None and time.monotonic() < deadline, end(process)
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    output = end(process)
    assert process.returncode == 75, output[-3000:]


def test_prepare_lists_what_is_there_and_leaves_nothing(tmp_path):
    config = write_config(tmp_path, tiny_config(devices=16, num_nodes=2))
    run = tmp_path / "run"
    result = call("train.py", "fit", "--config", config, "--run", run, "--prepare", "--data.batch_size", 64)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "96 training and 21 validation images" in result.stdout and "2 on each of the 32 processes" in result.stdout
    assert "disabled: metrics.csv only" in result.stdout and result.stdout.endswith("ready: submit it\n")
    wrong = ["--data.batch_size", 90, "--model.data_shape", "[3, 8, 8]", "--model.network.in_channels", 3]
    wrong += ["--quality.num_images", 700, "--quality.features", "nix"]
    result = call("train.py", "fit", "--config", config, "--run", run, "--prepare", *wrong)
    one_sentence(result, "network, measures, batch: missing or refused")
    assert (
        "there is no classifier at 'nix'" in result.stdout
        and "divided by 32" in result.stdout
        and "[1, 8, 8]" in result.stdout
    )
    assert not run.exists()
