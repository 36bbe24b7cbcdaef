"""W&B's own agent starts a run of ours, told what a server would tell it."""

import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, tiny_config, write_config

from common.wandb_options import agent_part


@pytest.mark.slow
def test_the_agent_starts_a_run_in_a_folder_of_its_own(tmp_path, monkeypatch):
    agents = pytest.importorskip("wandb.wandb_agent")
    config = tiny_config(max_steps=2, val_check_interval=2)
    config["wandb"] = {"mode": "auto"}
    options = {
        "model.schedule": "diffusion.schedules.Linear",
        "seed": 4,
        "ema": {"profile": "power", "widths": [0.1]},
        "model.channels_last": False,
    }
    # What the agent sets for its children, it sets in its own environment.
    environment = {
        "WANDB_SWEEP_ID": "sweep123",
        "WANDB_RUN_ID": "",
        "WANDB_SWEEP_PARAM_PATH": "",
        "WANDB_DIR": str(tmp_path),
        "WANDB_MODE": "offline",
    }
    environment |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    agent = agents.Agent(None, None)
    agent._sweep_command = [
        "${env}",
        "python",
        str(ROOT / "train.py"),
        "fit",
        "--config",
        str(write_config(tmp_path, config)),
        "${args}",
    ]
    agent._command_run(
        {"run_id": "run45678", "program": "train.py", "args": {k: {"value": v} for k, v in options.items()}}
    )
    process = agent._run_processes["run45678"]
    assert process.wait() == 0
    run = tmp_path / "runs" / "tiny" / "sweep123" / "run45678"
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["model"]["init_args"]["schedule"]["class_path"] == "diffusion.schedules.Linear"
    assert stored["seed_everything"] == stored["model"]["init_args"]["seed"] == 4
    assert stored["ema"]["profile"] == "power" and stored["ema"]["widths"] == [0.1]
    logged = list(tmp_path.glob("**/offline-run-*-run45678"))
    assert len(logged) == 1, "W&B must know the run by the agent's id"


@pytest.mark.parametrize(("sweep", "run", "part"), [("s", "r", "s/r"), ("", "r", "."), ("s", "", ".")])
def test_only_an_agents_runs_have_a_folder_named_by_it(monkeypatch, sweep, run, part):
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    monkeypatch.setenv("WANDB_RUN_ID", run)
    assert agent_part() == Path(part)
