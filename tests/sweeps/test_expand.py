"""The expansion says what W&B's agent would run; every shipped sweep passes the real command line."""

import copy
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from common.errors import UserError
from sweeps.check import check
from sweeps.expand import read_sweep, short_keys, short_value

SHIPPED = sorted((ROOT / "configs/sweeps").glob("*.yaml"))

GRID = {
    "program": "train.py",
    "name": "toy",
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {
        "model.schedule": {"values": ["diffusion.schedules.Linear", "diffusion.schedules.Cosine"]},
        "model.learning_rate": {"value": 1e-5},
        "seed": {"values": [0, 1, 2]},
        "model.sampler": {
            "values": [
                {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": 1.0}},
                {"class_path": "diffusion.samplers.heun.Heun"},
            ]
        },
    },
    "command": ["${env}", "python", "train.py", "fit", "--config", "configs/demo/train.yaml", "${args}"],
}


def write(folder: Path, **changes: object) -> Path:
    content = copy.deepcopy(GRID) | changes
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False))
    return path


def agents_words(path: Path, options: dict) -> list[str]:
    """The command as W&B's own agent makes it, from what the server would tell it."""
    content = load_sweep_config(str(path))
    flags = create_sweep_command_args({"args": {k: {"value": v} for k, v in options.items()}})
    macros = {
        "${env}": ["/usr/bin/env"],
        "${args}": flags["args"],
        "${program}": [content["program"]],
        "${interpreter}": ["python"],
    }
    return [word for part in create_sweep_command(content["command"]) for word in macros.get(part, [part])]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_sweep_passes_the_real_command_line(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    assert sweep.name == path.stem and len(sweep.combinations) > 1
    assert len({c.name for c in sweep.combinations}) == len(sweep.combinations)
    for combination in sweep.combinations:
        assert agents_words(path, combination.options) == ["/usr/bin/env", "python", *combination.words]
    check(sweep)


def test_all_combinations_in_order(tmp_path):
    sweep = read_sweep(write(tmp_path))
    assert len(sweep.combinations) == 2 * 3 * 2
    assert sweep.swept == ("model.schedule", "seed", "model.sampler")
    names = [c.name for c in sweep.combinations]
    assert (
        names[:3] == ["Linear-seed_0-DDIM_eta_1.0", "Linear-seed_0-Heun", "Linear-seed_1-DDIM_eta_1.0"]
        and len(set(names)) == 12
    )
    assert [c.number for c in sweep.combinations] == list(range(12))
    assert sweep.combinations[0].words[:4] == ("train.py", "fit", "--config", "configs/demo/train.yaml")
    assert "--model.learning_rate=1e-05" in sweep.combinations[0].words
    assert (
        "--model.sampler={'class_path': 'diffusion.samplers.ddim.DDIM', 'init_args': {'eta': 1.0}}"
        in sweep.combinations[0].words
    )


def test_the_numbers_of_another_file_are_others(tmp_path):
    first = read_sweep(write(tmp_path)).fingerprint
    assert read_sweep(write(tmp_path)).fingerprint == first
    assert read_sweep(write(tmp_path, name="other name")).fingerprint == first
    assert read_sweep(write(tmp_path, parameters={"seed": {"values": [0, 1]}})).fingerprint != first


def test_names_stay_unique(tmp_path):
    """Values that are shortened to the same word, or that a folder cannot carry."""
    paths = {"a.path": {"values": ["x.Same", "y.Same"]}, "b": {"values": ["-1.0", "1.0"]}}
    names = [c.name for c in read_sweep(write(tmp_path, parameters=paths)).combinations]
    assert len(set(names)) == 4
    assert all(set(n) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for n in names)
    assert short_keys(("model.init_args.seed", "data.seed", "x")) == {
        "model.init_args.seed": "model.seed",
        "data.seed": "data.seed",
        "x": "x",
    }
    assert short_value({"class_path": "a.b.C", "init_args": {"k": [1, 2]}}) == "C k=1 2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "bayes"}, "method must be grid"),
        ({"methd": "grid"}, "did you mean 'method'"),
        ({"parameters": None}, "parameters is empty"),
        ({"metric": {"name": "val/loss"}}, "metric must be"),
        ({"parameters": {"x": {"min": 0, "max": 1}}}, "parameter 'x'"),
        ({"parameters": {"x": {"parameters": {"y": {"value": 1}}}}}, "dotted keys"),
        ({"parameters": {"x": {"values": []}}}, "not empty"),
        ({"parameters": {"x": {"values": [1, 1]}}}, "twice"),
        ({"parameters": {"x": {"values": [None, 1]}}}, "null"),
        ({"command": ["${env}", "python", "train.py"]}, "${args}"),
        ({"command": ["${env}", "python", "${args_json}", "${args}"]}, "no macros but"),
        ({"program": "evaluate.py"}, "program 'evaluate.py'"),
    ],
)
def test_what_cannot_be_expanded_is_refused(tmp_path, changes, words):
    with pytest.raises(UserError) as caught:
        read_sweep(write(tmp_path, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"model.schedule": {"values": ["diffusion.schedules.Cosine", "diffusion.schedules.Cosin"]}}, "Cosin"),
        ({"model.prediction": {"values": ["v", "w"]}}, "prediction"),
        ({"model.sampling_steps": {"values": [10, "many"]}}, "sampling_steps"),
        ({"model.weighting": {"values": ["simple", "simpel"]}}, "simpel"),
    ],
)
def test_the_combination_that_the_command_line_refuses_is_named(tmp_path, monkeypatch, parameters, words):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        check(read_sweep(write(tmp_path, parameters=parameters)))
    assert "combination 1" in str(caught.value) and words in str(caught.value)
