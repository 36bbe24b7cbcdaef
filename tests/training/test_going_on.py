"""Where a run goes on, what is left of a start that came to nothing, and what finishes a run."""

import csv
import json
from pathlib import Path

import pytest
import torch
from full_disk import FullDisk
from helpers import call, one_sentence, tiny_config, write_config

import common.files
from common.run_folder import RunFolder


def fit(config: Path, run: Path, *options: object):
    return call("train.py", "fit", "--config", config, "--run", run, *options)


def steps(run: Path) -> list[int]:
    with open(run / "metrics.csv") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture
def config(tmp_path) -> Path:
    options = tiny_config(max_steps=4, val_check_interval=2)
    options["checkpoint"], options["health"], options["samples"] = (
        {"every_n_steps": 1},
        {"enabled": False},
        {"count": 0},
    )
    return write_config(tmp_path, options)


def test_the_one_before_takes_the_place_of_a_damaged_checkpoint(config, tmp_path):
    run = tmp_path / "run"
    assert fit(config, run).returncode == 0
    folder = run / "checkpoints"
    content = torch.load(folder / "last.ckpt", weights_only=True)
    assert torch.load(folder / "previous.ckpt", weights_only=True)["global_step"] == 3
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:-5000])
    (folder / ".last.ckpt.1234.part").write_bytes(b"half")
    (folder / ".mine.part").write_bytes(b"not a writer's")
    (run / "finished.json").unlink()
    result = fit(config, run)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "last.ckpt' cannot be read: going on from the one before, 'previous.ckpt' of step 3" in result.stdout
    again = torch.load(folder / "last.ckpt", weights_only=True)
    assert all(torch.equal(value, again["state_dict"][name]) for name, value in content["state_dict"].items())
    names = {".mine.part", "damaged.ckpt", "last.ckpt", "previous.ckpt"}
    assert {p.name for p in folder.iterdir()} == names and steps(run) == [0, 1, 2, 3]

    for name in ("last.ckpt", "previous.ckpt"):
        (folder / name).write_bytes(b"PK nothing")
    (run / "finished.json").unlink()
    one_sentence(fit(config, run), "last.ckpt", "or is not a checkpoint")


def test_a_start_that_was_killed_before_its_first_checkpoint_leaves_no_rows(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("step,epoch,train/loss\n0,0,7.0\n1,0,6.0\n")  # of another learning rate
    assert fit(config, run).returncode == 0
    assert steps(run) == [0, 1, 2, 3] and ",7.0" not in (run / "metrics.csv").read_text()


def test_a_time_that_is_over_finishes_no_run(config, tmp_path):
    run = tmp_path / "run"
    for _ in range(2):  # the time counts from the start of a command: the second one goes on
        before = RunFolder(run).last_checkpoint
        result = fit(config, run, "--trainer.max_steps", 400, "--trainer.max_time", "00:00:00:00")
        assert result.returncode == 0 and "not finished, the same command goes on" in result.stdout, result.stderr[
            -999:
        ]
        assert not (run / "finished.json").exists()
        assert before is None or "continuing" in result.stdout
    result = fit(config, run)
    assert result.returncode == 0 and json.loads((run / "finished.json").read_text())["step"] == 4


def test_a_trial_leaves_nothing(config, tmp_path):
    run = tmp_path / "run"
    result = fit(config, run, "--trainer.fast_dev_run", "true", "--model.learning_rate", "0.5")
    assert result.returncode == 0 and "nothing of it is kept" in result.stdout, result.stderr[-2000:]
    assert not run.exists()
    assert fit(config, run).returncode == 0  # at the learning rate of the config


def test_a_full_disk_is_one_sentence(config, tmp_path, monkeypatch):
    """At the second checkpoint, in the middle of what torch's writer writes; see tests/common/test_files.py."""
    count = 0

    def opened(path, mode):
        nonlocal count
        count += ".last.ckpt." in str(path)
        return FullDisk(path, mode, room=70_000 if count == 2 else 10**9)

    monkeypatch.setattr(common.files, "open", opened, raising=False)
    run = tmp_path / "run"
    one_sentence(fit(config, run), "last.ckpt", "the disk is full", "same command again")
    assert not list(run.rglob("*.part"))
    monkeypatch.undo()
    assert fit(config, run).returncode == 0 and steps(run) == [0, 1, 2, 3]
