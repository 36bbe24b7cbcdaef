"""Names of classes and options that earlier versions wrote: each is found, once said and never for a checkpoint."""

import importlib
import inspect
import json
import sys
import warnings
from pathlib import Path

import jsonargparse
import pytest
from stored.unpack import HERE, unpack

from common import renamed
from common.build import find_class, named_parameters
from common.renamed import current, modernised, original
from evaluation.config import read_config
from evaluation.generation.config import read_generation_config
from studies.stopping_study import read_study
from training.cli import TrainCLI

#: Classes of before that are no more, and why no file needs them.
REMOVED = {
    "diffusion.weighting.Weighting": "was made of a name with numbers beside it, which files go on having",
    "metrics.base.Pooled": "was the base of metrics over all images; those are metrics by their own paths",
    "metrics.diversity.SetMetrics": "held the metrics of sets, which are classes of their own files now",
    "networks.packed.PackedConv2d": "was put in by the network itself while it computed, never named in a file",
    "networks.winograd.WinogradConv2d": "was put in by the network itself while it computed, never named in a file",
}
#: Values that one part of the program hands to another: no file names them, so their fields are free.
IN_MEMORY = {"evaluation.generation.measures.Quality", "evaluation.plan.Plan", "evaluation.tables.Column"}
#: The options of every public class of before, by its path of then.
OPTIONS: dict[str, list[str]] = json.loads((HERE / "options.json").read_text(encoding="utf-8"))
PATHS = [p for p in (HERE / "class_paths.txt").read_text(encoding="utf-8").split() if p not in REMOVED]
TRAINED = ["ddpm", "conditional", "cold", "cold_start", "classifier", "dip", "lora", "guided", "power_ema"]


def class_of(path: str) -> type:
    module, _, name = current(path).rpartition(".")
    return getattr(importlib.import_module(module), name)


def options_of(found: type) -> set[str]:
    """Also those that **options hands on to another class, which only the parser follows."""
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(found, sub_configs=False, fail_untyped=False)
    return {*named_parameters(found), *(action.dest.partition(".")[0] for action in parser._actions)}


def test_every_class_path_is_found():
    for path in PATHS:
        found = class_of(path)
        assert inspect.isclass(found), path
        if not inspect.isabstract(found):
            assert find_class(path, object, where="here") is found
    assert set(OPTIONS) == {*PATHS, *REMOVED}


def test_every_name_leads_back_to_the_first_one():
    """What is hashed for a row of results: the path of before, and the path of now, give the same."""
    for path in PATHS:
        assert original(current(path)) == original(path) == path
        assert current(current(path)) == current(path)
    for path, names in OPTIONS.items():
        spec = {"class_path": path, "init_args": dict.fromkeys(names, 1)}
        if "weighting" not in names and path not in REMOVED:  # its name and numbers are a class now
            assert original(modernised(spec, warn=False)) == spec


def test_every_option_is_accepted():
    for path in PATHS:
        if path in IN_MEMORY:
            continue
        found = class_of(path)
        given = modernised({"class_path": path, "init_args": dict.fromkeys(OPTIONS[path])}, warn=False)["init_args"]
        if not set(given) <= set(named_parameters(found)):
            assert set(given) <= options_of(found), path


def parsed(monkeypatch, *words: str) -> jsonargparse.Namespace:
    """What train.py would run with these words, and nothing is built."""
    monkeypatch.setattr(TrainCLI, "before_instantiate_classes", lambda cli: cli.__dict__.update(seen=cli.config.fit))
    monkeypatch.setattr(TrainCLI, "instantiate_classes", lambda cli: None)
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda cli, subcommand: None)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", *words])
    return TrainCLI().seen


@pytest.mark.parametrize("name", TRAINED)
def test_configs_of_training_mean_the_same(name, monkeypatch):
    """What was asked for, and what a run folder kept of it, are one configuration under the names of now."""
    monkeypatch.setattr(renamed, "_warned", set())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        asked = parsed(monkeypatch, "--config", str(HERE / "configs" / f"{name}.yaml"), "--run", "r", "--seed", "0")
        kept = parsed(monkeypatch, "--config", str(HERE / name / "config.yaml"), "--run", "r")
    for part in ("model", "data", "ema", "samples", "checkpoint"):
        assert asked[part] == kept[part], part
    assert (
        find_class(asked.model.class_path, object, where="model").__module__
        == asked.model.class_path[: -len(asked.model.class_path.rpartition(".")[2]) - 1]
    )


def test_numbers_of_a_weighting_may_stand_in_a_later_file(tmp_path, monkeypatch):
    later = tmp_path / "later.yaml"
    later.write_text("model: {init_args: {min_snr_gamma: 3.0}}")
    configs = ["--config", str(HERE / "configs" / "ddpm.yaml"), "--config", str(later)]
    with pytest.warns(FutureWarning, match="min_snr"):
        monkeypatch.setattr(renamed, "_warned", set())
        weighting = parsed(monkeypatch, *configs).model.init_args.weighting
    assert weighting.class_path == "diffusion.weighting.min_snr.MinSNR"
    assert weighting.init_args.gamma == 3.0


def test_configs_of_evaluations_and_studies_are_read(tmp_path, monkeypatch):
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    for folder in ("configs/evaluate.yaml", "evaluate/config.yaml"):
        assert read_config([f"stored/{folder}"]).methods["dps"].class_path == "restoration.dps.DPS"
    for folder in ("configs/generation.yaml", "generation/config.yaml"):
        assert list(read_generation_config([f"stored/{folder}"]).samplers) == ["ddpm", "heun"]
    assert list(read_study([Path("stored/configs/study.yaml")], []).criteria) == [
        "oracle",
        "fixed_6",
        "es_wmv",
        "held_out",
    ]


def test_a_new_name_is_said_once(monkeypatch):
    monkeypatch.setattr(renamed, "_warned", set())
    words = ("--config", str(HERE / "configs" / "guided.yaml"))
    with pytest.warns(FutureWarning) as said:
        parsed(monkeypatch, *words)
    texts = [str(w.message) for w in said if issubclass(w.category, FutureWarning)]
    for old, new in (
        ("lightning_modules.ddpm_with_guide.DDPMWithGuide", "image_conditioned_ddpm.ImageConditionedDDPM"),
        ("restoration.guide_bank.GuideBank", "restoration.conditioning_bank.ConditioningBank"),
    ):
        assert len([t for t in texts if f"'{old}' is called" in t and new in t]) == 1, texts
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        parsed(monkeypatch, *words)
