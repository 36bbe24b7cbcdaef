"""What makes the checkpoints that a configuration names and that are not shipped."""

import json
from pathlib import Path

import pytest
from helpers import ROOT

from common.errors import UserError
from common.yaml_files import read_yaml
from evaluation.config import parse_config, read_config
from evaluation.generation.config import is_generation, read_generation_config
from evaluation.trainings import training_of, trainings_of

SHIPPED = sorted([*(ROOT / "configs/evaluate").glob("*.yaml"), *(ROOT / "configs/demo").glob("*.yaml")])
NAMING = [p for p in SHIPPED if any("runs/" in str(v) for v in (read_yaml(p).get("priors") or {}).values())]


def config(**priors):
    back = {"back": "tests.evaluation.toys.Back"}
    tasks = {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}}
    return parse_config(
        {"data": "datamodules.digits.Digits", "tasks": tasks, "methods": back, "priors": priors}, "test"
    )


@pytest.mark.parametrize("path", NAMING, ids=lambda p: p.stem)
def test_every_checkpoint_that_is_not_shipped_has_its_training(path: Path):
    asked = (read_generation_config if is_generation([path]) else read_config)([path])
    trainings = {t.run: t for t in trainings_of(asked)}
    for prior in asked.priors.values():
        for file in (prior.path, *(adapter.path for adapter in prior.adapters)):
            if file.startswith("runs/"):
                training = training_of(file, prior.trained_by)
                assert training is not None and trainings[training.run] == training, file
                assert file.startswith(f"{training.run}/") and training.words[-1] == f"--run={training.run}"
                assert all(Path(word).is_file() for word in training.words if word.startswith("configs/"))


def test_the_command_is_short_where_the_folder_is_its_own():
    own = training_of("runs/flow_cifar10/checkpoints/last.ckpt")
    assert own and own.command == "python train.py fit --config configs/train/flow_cifar10.yaml"
    other = training_of("runs/a/checkpoints/last.ckpt", "configs/train/flow_cifar10.yaml --data.limit 5")
    assert other and other.command.endswith("configs/train/flow_cifar10.yaml --data.limit 5 --run=runs/a")
    for path in ("runs/nobody_made_this/checkpoints/last.ckpt", "assets/ddpm_mnist.safetensors", "last.ckpt", "a\nb"):
        assert training_of(path) is None


def test_what_a_training_needs_comes_first():
    """An adapter for a prior that is not shipped either."""
    found = trainings_of(config(lora="runs/lora_cifar10_to_faces/adapter", other="runs/flow_mnist_28/checkpoints/a"))
    assert [t.run.name for t in found] == ["ddpm_cifar10", "lora_cifar10_to_faces", "flow_mnist_28"]
    assert found[1].needs == (Path("runs/ddpm_cifar10"),)


def test_trainings_that_need_each_other_are_refused(tmp_path):
    for mine, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{mine}.yaml").write_text(f"model: {{prior: {tmp_path}/{other}/checkpoints/last.ckpt}}\n")
    priors = {
        name: {"path": f"{tmp_path}/{name}/checkpoints/last.ckpt", "trained_by": f"{tmp_path}/{name}.yaml"}
        for name in ("a", "b")
    }
    with pytest.raises(UserError, match="need each other"):
        trainings_of(config(**priors))


def test_where_a_run_is(tmp_path):
    path = f"{tmp_path}/run/checkpoints/last.ckpt"
    training = training_of(path, "configs/train/flow_mnist_28.yaml")
    assert training and training.state == "missing"
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    Path(path).touch()
    assert training.state == "finished"  # somebody else's file, put there
    (tmp_path / "run/config.yaml").touch()
    assert training.state == "begun"
    (tmp_path / "run/finished.json").write_text(json.dumps({"step": 2}))
    assert training.state == "finished"


@pytest.mark.parametrize("value", ["", 3, ["a"]])
def test_trained_by_is_a_command(value):
    with pytest.raises(UserError, match="trained_by must be a training config with its options"):
        config(a={"path": "a.ckpt", "trained_by": value})


def test_trained_by_begins_with_a_config():
    with pytest.raises(UserError, match=r"must begin with a training config, such as 'configs/train/a\.yaml'"):
        trainings_of(config(a={"path": "runs/a/checkpoints/a.ckpt", "trained_by": "no.yaml --data.limit 5"}))
    assert "trained_by" not in config(a="a.ckpt").plain()["priors"]["a"]
