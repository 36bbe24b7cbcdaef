"""An evaluation with the trainings that it needs: really trained for two steps, and as jobs."""

import csv
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, call, call_process, environment, tiny_config

from common.errors import UserError
from evaluation.trainings import Training
from studies import chain
from studies.chain import asked, job_script


@pytest.fixture
def study(tmp_path) -> Path:
    """An evaluation with a prior, and one that goes on from it and is named before it."""
    first = tiny_config(max_steps=2)
    later = {key: value for key, value in first.items() if key != "model"}
    prior = f"{tmp_path}/runs/first/checkpoints/last.ckpt"
    later["model"] = {"class_path": "lightning_modules.fine_tuning.FineTuning", "init_args": {"prior": prior}}
    evaluation = {
        "data": "datamodules.digits.Digits",
        "limit": 2,
        "metrics": {"psnr": "metrics.psnr.PSNR"},
        "tasks": {"noise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {n: {"class_path": "restoration.one_shot.OneShot", "prior": n} for n in ("later", "first")},
        "priors": {
            name: {
                "path": f"{tmp_path}/runs/{name}/checkpoints/last.ckpt",
                "trained_by": f"{tmp_path}/{name}.yaml --trainer.val_check_interval 2",
            }
            for name in ("later", "first")
        },
        "wandb": {"mode": "disabled"},
    }
    for name, content in {"first": first, "later": later, "evaluation": evaluation}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


@pytest.mark.slow
def test_it_trains_what_is_missing_in_order_and_evaluates(study):
    words = ["-m", "studies.chain", "--config", study / "evaluation.yaml", "--output", study / "results"]
    before = call_process(*words, "--dry_run")
    assert before.returncode == 0, before.stderr[-2000:]
    assert [line.split()[0] for line in before.stdout.splitlines()] == ["missing", "missing", "then"]
    options = ["--train.data.limit=48", "--train.trainer.max_steps=2"]
    result = call_process(*words, *options)
    assert result.returncode == 0, result.stderr[-2000:]
    ran = [line for line in result.stdout.splitlines() if line.startswith("$ python ")]
    assert ["first.yaml" in ran[0], "later.yaml" in ran[1], "evaluate.py" in ran[2]] == [True] * 3
    for name in ("first", "later"):
        assert (study / "runs" / name / "finished.json").is_file()
        assert yaml.safe_load((study / "runs" / name / "config.yaml").read_text())["data"]["init_args"]["limit"] == 48
    with (study / "results/rows.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["later"] * 2 + ["first"] * 2
    again = call_process(*words, *options)
    assert again.returncode == 0 and "train.py fit" not in again.stdout.split("$ python ")[1]
    assert "everything is done already" in again.stdout


def test_prepare_says_what_the_trainings_cost(study, monkeypatch):
    monkeypatch.setattr("evaluation.prepare.subprocess.run", lambda words, **_: call(*words[1:]))
    result = call("evaluate.py", "--config", study / "evaluation.yaml", "--prepare")
    assert result.returncode == 1, result.stderr[-2000:]
    said = result.stdout.split("to be trained first, in this order (first, later):\n")[1].splitlines()
    assert "first.yaml" in said[0] and "2 steps of 16 images, 32 in all" in said[0] and "core minutes" in said[0]
    assert "cannot begin yet" in said[1] and "first/checkpoints/last.ckpt" in said[1]
    assert said[2].endswith(f"python -m studies.chain --config {study}/evaluation.yaml")


def test_jobs_wait_for_those_that_they_need(study):
    """The script, run with an sbatch that writes down what it is given."""
    trainings, generation = asked(["--config", str(study / "evaluation.yaml")])
    script = job_script(trainings, ["--config", "a b.yaml", "--output", "out"], generation=generation)
    (study / "jobs.sh").write_text(script)
    (study / "sbatch").write_text('#!/bin/bash\necho "$*" >> "$(dirname "$0")/told"; wc -l < "$(dirname "$0")/told"\n')
    (study / "sbatch").chmod(0o755)
    env = environment() | {"PATH": f"{study}{os.pathsep}{os.environ['PATH']}", "TRAIN": "--time=1 --partition=p"}
    result = subprocess.run(["bash", str(study / "jobs.sh")], env=env, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    first, later, last = (study / "told").read_text().splitlines()
    common = "--parsable --kill-on-invalid-dep=yes"
    options = "--ntasks-per-node=1 --gpus-per-node=1 --time=1 --partition=p"
    run = f"configs/cluster/slurm.sh --config {study}"
    assert first.startswith(f"{common} {options} --job-name=first {run}/first.yaml")
    assert later.startswith(f"{common} {options} --dependency=afterok:1 --job-name=later {run}/later.yaml")
    assert last == (
        f"{common} --dependency=afterok:1:2 configs/cluster/evaluate_array.sh --config a b.yaml --output out"
    )
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["1", "2", "3"]


def test_what_draws_is_one_job_and_nothing_to_train_needs_no_order():
    script = job_script([], ["--config", "g.yaml"], generation=True)
    assert "dependency" not in script and "configs/cluster/python.sh evaluate.py --config g.yaml" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_shellcheck_is_content_with_the_script():
    from cluster.test_scripts import shellcheck

    if shellcheck() is None:
        pytest.skip("shellcheck is not installed")
    trainings = [Training(Path("runs/a b"), ("train.py", "fit", "--config", "a b.yaml", "--run=runs/a b"))]
    script = job_script(trainings, ["--config", "c.yaml"], generation=False)
    result = subprocess.run([str(shellcheck()), "-"], input=script, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "--config is missing"),
        (["--config", "no.yaml"], "does not exist"),
        (["--config", "configs/evaluate/mnist.yaml", "--train.data.limit"], r"write --train\.OPTION=VALUE"),
        (["--config", "configs/evaluate/mnist.yaml", "--methodz.a=1"], "no option --methodz"),
    ],
)
def test_mistakes_are_said_before_anything_runs(words, match, monkeypatch):
    monkeypatch.setattr("sys.argv", ["chain", *words])
    monkeypatch.setattr(chain, "run", lambda words: pytest.fail("it ran"))
    monkeypatch.setattr(chain, "answer_stop_signals", lambda: None)
    with pytest.raises(UserError, match=match):
        chain.main()
