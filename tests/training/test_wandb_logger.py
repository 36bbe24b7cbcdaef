"""A run outlives W&B's own process, which SLURM tells to stop together with it."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT, call, environment, tiny_config, write_config
from lightning.pytorch.loggers import WandbLogger

from training.wandb_logger import UntilItEnds, finish_wandb


def lost(*_: object, **__: object) -> None:
    raise ConnectionResetError("Connection lost")


def test_it_is_said_once_and_nothing_more_is_logged(monkeypatch, capsys, tmp_path):
    logged = []
    monkeypatch.setattr(WandbLogger, "log_metrics", lambda self, metrics, step: logged.append((metrics, step)))
    monkeypatch.setattr(WandbLogger, "log_image", lost)
    logger = UntilItEnds(save_dir=str(tmp_path), offline=True)
    logger.log_metrics({"a": 1.0}, step=3)
    for _ in range(2):
        logger.log_image("samples", ["x.png"], step=3)
        logger.log_metrics({"a": 2.0}, step=4)
    assert logged == [({"a": 1.0}, 3)]
    assert capsys.readouterr().out.count("W&B's process has ended (Connection lost)") == 1


def test_how_it_ends_is_not_how_the_run_ends(monkeypatch, capsys):
    """W&B's teardown leaves with the exit code of its process."""

    def leave(exit_code: int) -> None:
        raise SystemExit(143)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=1, finish=lost, teardown=leave))
    finish_wandb(75)
    assert "W&B was not ended in order (Connection lost)" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    finish_wandb(0)


def below(pid: int) -> list[int]:
    """All processes that it has started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [p for child in map(int, found) for p in (child, *below(child))]


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_run_saves_it(tmp_path):
    """Before, the next row ended the run with a trace and 1, with nothing saved since the last checkpoint."""
    run, go = tmp_path / "run", tmp_path / "go"
    config = tiny_config(max_steps=30, val_check_interval=15)
    config |= {"wandb": {"mode": "offline"}, "health": {"enabled": False}, "checkpoint": {"every_n_steps": 30}}
    config["trainer"]["callbacks"] = [{"class_path": "cluster.slow_until.SlowUntil", "init_args": {"file": str(go)}}]
    words = ("train.py", "fit", "--config", write_config(tmp_path, config), "--run", run)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=env, **pipes)
    deadline = time.monotonic() + 240
    try:
        while not (run / "metrics.csv").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=10)[0][-3000:]
            time.sleep(0.02)
        helpers = below(process.pid)
        assert any("wandb" in Path(f"/proc/{pid}/cmdline").read_text() for pid in helpers)
        for pid in (process.pid, *helpers):
            os.kill(pid, signal.SIGTERM)
        output = process.communicate(timeout=240)[0]
    finally:
        process.kill()
    assert process.returncode == 75 and "Traceback" not in output, output[-3000:]
    assert "saved; run the same command again" in output and (run / "checkpoints/last.ckpt").exists()
    go.touch()
    result = call(*words, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    with open(run / "metrics.csv") as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]] == list(range(30))
