"""The job scripts without training: clean for shellcheck, requeue on 75 alone; the fragments beside them are valid."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster.fake_slurm import install, requeued
from helpers import ROOT, environment

SCRIPTS = sorted((ROOT / "configs" / "cluster").glob("*.sh"))


def shellcheck() -> str | None:
    beside = Path(sys.executable).with_name("shellcheck")
    return str(beside) if beside.exists() else shutil.which("shellcheck")


@pytest.mark.skipif(shellcheck() is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_shellcheck_is_content(script):
    result = subprocess.run([shellcheck(), str(script)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert os.access(script, os.X_OK)


def fake_python(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130, 137])
def test_slurm_queues_again_on_75_alone(code, tmp_path):
    slurm = tmp_path / "slurm"
    python = fake_python(tmp_path, f'echo "$@" >> {tmp_path}/calls; exit {code}')
    env = {**environment(), **install(slurm, job=4242), "PYTHON": python}
    env["PATH"] = f"{slurm}{os.pathsep}{env['PATH']}"
    command = [
        "sbatch",
        "--nodes=2",
        "--ntasks-per-node=3",
        "configs/cluster/slurm.sh",
        "--config",
        "a b.yaml",
        "--run",
        "runs/x",
    ]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == code, result.stderr
    assert requeued(slurm) == (["requeue 4242"] if code == 75 else [])
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["train.py fit --config a b.yaml --run runs/x --trainer.num_nodes 2 --trainer.devices 3"] * 6


@pytest.mark.parametrize("code", [0, 2, 75])
def test_an_array_gives_each_job_its_share_whatever_it_counts_from(code, tmp_path):
    slurm = tmp_path / "slurm"
    python = fake_python(tmp_path, f'echo "$@" >> {tmp_path}/calls; exit {code}')
    env = {**environment(), **install(slurm, job=77), "PYTHON": python, "SLURM_JOB_ID": "77"}
    env |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
    env |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
    env["PATH"] = f"{slurm}{os.pathsep}{env['PATH']}"
    command = ["configs/cluster/evaluate_array.sh", "--config", "a b.yaml", "--output", "out"]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == code, result.stderr
    assert requeued(slurm) == (["requeue 77"] if code == 75 else [])
    assert (tmp_path / "calls").read_text().splitlines() == ["evaluate.py --config a b.yaml --output out --shard 2/4"]


def test_slurm_asks_for_the_signal_where_the_handlers_are():
    text = (ROOT / "configs" / "cluster" / "slurm.sh").read_text()
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=USR1@300", "--open-mode=append"} <= set(asked), (
        "without B: the signal goes to the tasks"
    )


@pytest.mark.parametrize(
    ("text", "marker", "expected"),
    [
        ("exit 0", False, 0),
        ("exit 1", False, 1),
        ('touch "$RUN/preempted.json"; exit 1', False, 75),
        ("exit 1", True, 1),
        ("kill -USR1 $$; exit 0", False, 0),  # as SLURM does with all processes of a step
    ],
)
def test_torchrun_finds_the_code_in_the_run_folder(text, marker, expected, tmp_path):
    """torchrun makes 1 of every code; what an earlier stop left behind does not count."""
    run = tmp_path / "run"
    run.mkdir()
    if marker:
        (run / "preempted.json").write_text("{}")
    env = {**environment(), "PYTHON": fake_python(tmp_path, text), "GPUS": "2", "RUN": str(run)}
    command = ["configs/cluster/torchrun.sh", "--config", "x.yaml", f"--run={run}"]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == expected, result.stderr


@pytest.mark.parametrize(
    ("words", "ddp"),
    [
        (["--config", "a b.yaml", "--run", "runs/x"], True),
        (["--config", "a.yaml", "--config", "configs/cluster/fsdp.yaml"], False),
        (["--config", "a.yaml", "--trainer.strategy=ddp"], False),
        (["--config", "a.yaml", "--trainer.strategy", "sharded"], False),
        (["--config", "OWN/own.yaml", "--run", "runs/x"], False),  # a later ddp.yaml would replace its strategy
        (["--config=OWN/own.yaml"], False),
    ],
)
def test_a_workstation_takes_the_strategy_of_the_command_else_ddp(words, ddp, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer:\n  devices: 2\n  strategy: sharded\n")
    words = [word.replace("OWN", str(tmp_path)) for word in words]
    env = {**environment(), "PYTHON": fake_python(tmp_path, f'echo "$@" > {tmp_path}/call'), "GPUS": "2"}
    result = subprocess.run(
        ["configs/cluster/workstation.sh", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    fragment = " --config configs/cluster/ddp.yaml" if ddp else ""
    expected = f"train.py fit {' '.join(words)}{fragment} --trainer.devices 2\n"
    assert (tmp_path / "call").read_text() == expected


def test_torchrun_wants_a_run_folder_and_a_number_of_processes():
    for env, word in (({"GPUS": "2"}, "--run"), ({"GPUS": "0"}, "GPUS")):
        result = subprocess.run(
            ["configs/cluster/torchrun.sh", "--config", "x"],
            cwd=ROOT,
            env={**environment(), **env},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2 and result.stderr.startswith("error: ") and word in result.stderr


@pytest.mark.parametrize("name", ["bf16_mixed", "fp16_mixed", "ddp"])
def test_fragments_are_options_of_the_trainer(name):
    from lightning.pytorch import Trainer

    from training.cli import Parser

    parser = Parser()
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(Trainer, "trainer")
    path = ROOT / "configs" / "cluster" / f"{name}.yaml"
    found = parser.parse_args(["--config", str(path)]).trainer
    wanted = yaml.safe_load(path.read_text())["trainer"]
    assert all(found[key] == value for key, value in wanted.items() if not isinstance(value, dict))
    if name == "ddp":  # its class takes the option
        trainer = parser.instantiate(parser.parse_args(["--config", str(path), "--trainer.accelerator", "cpu"])).trainer
        assert trainer.strategy._ddp_kwargs["gradient_as_bucket_view"] is True
