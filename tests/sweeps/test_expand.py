"""The expansion says what W&B's agent would run; every shipped sweep passes the real command line."""

import copy
from pathlib import Path

import numpy as np
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
        "${args_no_boolean_flags}": flags["args_no_boolean_flags"],
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
        ({"metric": {"name": "val/loss", "goal": "least"}}, "metric must be"),
        ({"metric": {"goal": "minimize"}}, "metric must be"),
        ({"parameters": {"x": {"min": 0.5, "max": 1}}}, "'x' is a range without steps"),
        ({"parameters": {"x": {"distribution": "normal", "mu": 0, "sigma": 1}}}, "parameter 'x'"),
        ({"parameters": {"x": {"distribution": "uniform", "min": 0, "max": 1}}}, "distribution 'uniform'"),
        ({"parameters": {"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}}, "'x' is a range"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, "early_terminate is known to W&B and not honoured"),
        ({"job": "me/project/job:v0"}, "job is known to W&B and not honoured"),
        ({"controller": {"type": "mine"}}, "controller must be"),
        ({"run_cap": 0}, "run_cap must be"),
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


def test_what_a_grid_of_wandb_may_leave_out_or_say(tmp_path):
    for metric, minimize in ((None, True), ({"name": "a"}, True), ({"name": "a", "goal": "maximize"}, False)):
        sweep = read_sweep(write(tmp_path, metric=metric, controller={"type": "local"}))
        assert sweep.minimize is minimize and sweep.metric == (metric and "a")


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"min": 2, "max": 5}, [2, 3, 4, 5]),
        ({"distribution": "int_uniform", "min": -1, "max": 1}, [-1, 0, 1]),
        ({"distribution": "q_uniform", "min": 0.25, "max": 1.0, "q": 0.25}, [0.25, 0.5, 0.75]),
        ({"distribution": "q_uniform", "min": 0, "max": 5, "q": 2}, [0, 2, 4]),
        ({"distribution": "categorical", "values": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_ranges_as_the_grid_search_of_wandb_takes_them(entry, values, tmp_path):
    """int_uniform with its end; q_uniform without, numpy.arange(min, max, q)."""
    sweep = read_sweep(write(tmp_path, parameters={"x": entry}))
    assert [c.options["x"] for c in sweep.combinations] == values
    if "q" in entry:
        assert values == np.arange(entry["min"], entry["max"], entry["q"]).tolist()


def test_run_cap_ends_the_list(tmp_path):
    whole = read_sweep(write(tmp_path))
    capped = read_sweep(write(tmp_path, run_cap=5))
    assert [c.words for c in capped.combinations] == [c.words for c in whole.combinations[:5]]
    assert len(read_sweep(write(tmp_path, run_cap=99)).combinations) == 12


def test_macros_are_what_the_agent_makes_of_them(tmp_path, monkeypatch):
    """Variables of the environment, the name where there is none, flags without a value."""
    monkeypatch.setenv("SHARED", "/data")
    monkeypatch.delenv("NOT_SET", raising=False)
    command = ["${env}", "python", "train.py", "fit", "--data.data_dir=${envvar:SHARED}/x", "${envvar:NOT_SET}"]
    parameters = {"a": {"values": [True, False]}, "b": {"value": 3}}
    for macro in ("${args}", "${args_no_boolean_flags}"):
        path = write(tmp_path, command=[*command, macro], parameters=parameters)
        for combination in read_sweep(path).combinations:
            made = agents_words(path, combination.options)
            assert made == ["/usr/bin/env", "python", *combination.words]
            assert "--data.data_dir=/data/x" in made and "NOT_SET" in made
    assert read_sweep(path).combinations[0].words[-2:] == ("--a", "--b=3")


@pytest.mark.parametrize("macro", ["${args_json}", "${args_no_hyphens}", "${args_json_file}", "x${args}"])
def test_a_macro_that_is_not_honoured_is_refused(macro, tmp_path):
    with pytest.raises(UserError, match="no macros but"):
        read_sweep(write(tmp_path, command=["python", "train.py", macro, "${args}"]))


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
