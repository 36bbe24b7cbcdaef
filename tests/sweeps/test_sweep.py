"""sweep.py as a user calls it, with the real train.py: two runs of two steps, their table, and mistakes in one
sentence.
"""

import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, tiny_config, write_config

import sweep as entry
from common.errors import UserError


@pytest.fixture
def call(monkeypatch, capsys):
    """sweep.py ARGS in this process: (exit code, what it printed)."""

    def run(*args: object) -> tuple[int, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("WANDB_MODE", "disabled")
        monkeypatch.setattr("sys.argv", ["sweep.py", *map(str, args)])
        code = entry.main()
        return code, capsys.readouterr().out

    return run


def write_sweep(folder: Path, parameters: dict) -> Path:
    config = write_config(folder, tiny_config(max_steps=2, val_check_interval=2))
    content = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/loss", "goal": "minimize"},
        "parameters": parameters,
        "command": ["${env}", "python", "train.py", "fit", "--config", str(config), "--samples.count=0", "${args}"],
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def runs(output: Path) -> list[dict[str, str]]:
    with open(output / "runs.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_grid_is_run_and_tabled(tmp_path, call):
    sweep = write_sweep(
        tmp_path,
        {
            "model.schedule": {"values": ["diffusion.schedules.Linear", "diffusion.schedules.Cosine"]},
            "seed": {"value": 3},
        },
    )
    output = tmp_path / "out"
    code, printed = call("run", sweep, "--output", output, "--jobs", 2, "--threads", 1)
    assert code == 0, printed
    for name in ("Linear", "Cosine"):
        config = yaml.safe_load((output / name / "config.yaml").read_text())
        assert config["model"]["init_args"]["schedule"]["class_path"] == f"diffusion.schedules.{name}"
        assert (
            config["seed_everything"]
            == config["model"]["init_args"]["seed"]
            == config["data"]["init_args"]["seed"]
            == 3
        )
        assert config["wandb"]["group"] == "small" and config["wandb"]["tags"] == ["sweep"]
    assert "Linear  finished" in call("list", sweep, "--output", output)[1]
    code, printed = call("table", sweep, "--output", output, "--metric", "train/loss")
    assert code == 0 and "2 of 2 runs finished" in printed and printed.count("**") == 2
    rows = runs(output)
    assert (
        [r["schedule"] for r in rows] == ["Linear", "Cosine"]
        and {r["status"] for r in rows} == {"finished"}
        and {r["images"] for r in rows} == {"32"}
    )
    for row in rows:
        with open(output / row["schedule"] / "metrics.csv") as file:
            last = [r["val/loss"] for r in csv.DictReader(file) if r["val/loss"]][-1]
        assert float(row["val/loss"]) == pytest.approx(float(last), rel=1e-7)
    # A result belongs to a command and a config: the file of another config has none yet.
    changed = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    changed["trainer"]["max_steps"] = 3
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(changed))
    call("table", sweep, "--output", output)
    assert {(r["status"], r["val/loss"]) for r in runs(output)} == {("outdated", "")}


def test_mistakes_are_one_sentence_before_anything_runs(tmp_path, call):
    wrong = write_sweep(tmp_path, {"model.predicton": {"values": ["v", "x0"]}})
    mistakes = {
        ("run", wrong, "--output", tmp_path / "out"): "predicton",
        ("run", wrong, "--only", "nothing"): "no combination",
        ("run", wrong, "--number", 0, "--fingerprint", "abc"): "has changed",
        ("list", tmp_path / "absent.yaml"): "absent.yaml",
        ("run", wrong, "--jobs", 0): "--jobs",
        ("run", wrong, "--job", 2): "--job",
    }
    for args, words in mistakes.items():
        with pytest.raises(UserError) as caught:
            call(*args)
        assert words in str(caught.value), args
    assert not (tmp_path / "out").exists()


@pytest.fixture
def script(tmp_path, call) -> tuple[Path, Path]:
    """(the job array of three combinations, its sweep file)."""
    sweep = write_sweep(tmp_path, {"seed": {"values": [0, 1, 2]}})
    code, text = call("slurm", sweep, "--output", tmp_path / "out", "--max_parallel", 2)
    assert code == 0
    (tmp_path / "array.sh").write_text(text)
    return tmp_path / "array.sh", sweep


def test_a_job_array_has_a_task_for_every_combination(script, tmp_path, call):
    text = script[0].read_text()
    assert text.startswith("#!/bin/bash\n") and "--array=0-2%2\n" in text and "--gpus-per-task=1\n" in text
    assert (tmp_path / "out" / ".sweep").is_dir()  # sbatch makes no folders for its log files
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if shellcheck.exists():
        result = subprocess.run([shellcheck, script[0]], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout
    _, other = call("slurm", script[1], "--output", tmp_path / "out", "--gpus", 0, "--partition", "cpu")
    assert "--array=0-2\n" in other and "gpus" not in other and "--partition=cpu\n" in other
    _, spaced = call("slurm", script[1], "--output", tmp_path / "my runs", "--cpus", 3)
    assert f"#SBATCH --output='{tmp_path}/my runs/.sweep/slurm-%A_%a.out'\n" in spaced
    assert "#SBATCH --cpus-per-task=3\n" in spaced and 'srun --cpus-per-task=3 "$python"' in spaced


@pytest.mark.parametrize("code", [0, 1, 75])
def test_a_task_runs_its_combination_and_is_queued_again_on_75_alone(script, tmp_path, code):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, ending in {"srun": f"exit {code}", "scontrol": "true"}.items():
        (tools / name).write_text(f'#!/bin/bash\necho "$@" > {tmp_path}/{name}.called\n{ending}\n')
        (tools / name).chmod(0o755)
    slurm = {
        "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "PYTHON": "python3",
        "SLURM_JOB_ID": "72",
    }
    result = subprocess.run(
        ["bash", script[0]],
        env={**os.environ, **slurm, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == code, result.stderr
    cores, *called = shlex.split((tmp_path / "srun.called").read_text())
    assert (
        cores.startswith("--cpus-per-task=")
        and called[:4] == ["python3", "sweep.py", "run", str(script[1])]
        and called[-2:] == ["--number", "2"]
        and "--fingerprint" in called
    )
    requeued = tmp_path / "scontrol.called"
    assert requeued.read_text() == "requeue 70_2\n" if code == 75 else not requeued.exists()
