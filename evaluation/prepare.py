"""Everything that a configuration needs and that is not in the project: listed, fetched where there is a network."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints.foreign.import_diffusers import is_hub_name
from checkpoints.load import load_prior
from common.build import PROJECT, build, find_class, named_parameters
from common.errors import UserError
from common.weight_files import WeightFile
from datamodules.base import ImageDataModule
from evaluation.built_metrics import GIVE_FEATURES
from evaluation.config import Config
from evaluation.entries import Spec, spec_of
from evaluation.generation.config import GenerationConfig
from evaluation.trainings import Training, training_of, trainings_of
from metrics.base import InFeatures, MetricBase
from metrics.features import FeatureNetwork

#: Endings of files that options of methods, degradations and feature networks name.
FILES = (".ckpt", ".safetensors", ".pt", ".pth", ".npz", ".npy", ".png")


@dataclass(frozen=True)
class Need:
    """One thing.

    Args:
        what: in the list.
        find: where it is, with its size; "" where it is not. UserError where it is there and of no use.
        fetch: brings it, None where nothing can; UserError says why not.
        advice: what a person does instead.
    """

    what: str
    find: Callable[[], str]
    fetch: Callable[[], object] | None = None
    advice: str = ""


def prepare(config: Config | GenerationConfig, words: Sequence[str] = ()) -> int:
    """List what a configuration needs, fetch what is missing, with what a missing checkpoint costs to train, and what
    that training needs; 0 where all of it is there then, else 1.

    After a 0 its evaluation touches no network. words: the configuration as options of evaluate.py, to be said again.
    """
    missing = []
    for need in needs(config):
        try:
            found = need.find()
            if not found and need.fetch is not None:
                print(f"fetching  {need.what}", flush=True)
                need.fetch()
                found = need.find()
            reason = need.advice
        except UserError as error:
            found, reason = "", str(error)
        print(f"there     {need.what}: {found}" if found else f"missing   {need.what}", flush=True)
        if not found:
            missing.append(f"{need.what}: {' '.join(reason.split())}")
    if not missing:
        print("everything is there: the evaluation needs no network")
        return 0
    print("\nnot to be had:")
    for line in missing:
        print(f"- {line}")
    ahead = [training for training in trainings_of(config) if training.state == "missing"]
    if ahead:
        print(f"\nto be trained first, in this order ({', '.join(t.run.name for t in ahead)}):", flush=True)
        for training in ahead:
            print(f"- {training.command}: {prepared(training)}", flush=True)
        print(f"all of it by one command, also as jobs: {shlex.join(['python', '-m', 'studies.chain', *words])}")
    return 1


def prepared(training: Training) -> str:
    """Fetch what a training needs, as its own --prepare does; what it says of its cost, or why it cannot begin."""
    asked = [sys.executable, str(PROJECT / "train.py"), *training.words[1:], "--prepare"]
    done = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        reasons = re.findall(r"MISSING: (.*)", done.stdout) or re.findall(r"^error: (.*)", done.stderr, re.MULTILINE)
        last = done.stderr.strip().rpartition("\n")[2]
        return f"cannot begin yet: {reasons[0]}" if reasons else f"--prepare ended with {done.returncode}: {last}"
    cost = re.search(r"^  cost +(.*)", done.stdout, re.MULTILINE)
    return cost[1] if cost else "its data are there"


def needs(config: Config | GenerationConfig) -> list[Need]:
    """Data set, priors with their adapters, files of methods and degradations, weights of metrics; each once."""
    found = [_data(config)]
    for name, prior in config.priors.items():
        found.append(_prior(name, prior.path, prior.preset, prior.trained_by))
        found += [_file(f"adapter of prior '{name}'", adapter.path, prior.trained_by) for adapter in prior.adapters]
    specs: list[tuple[str, Any]] = []
    if isinstance(config, Config):
        specs += [(f"methods.{n}", m.init_args) for n, m in config.methods.items()]
        specs += [(f"tasks.{n}", [t.degradation["init_args"], t.noise["init_args"]]) for n, t in config.tasks.items()]
    found += [_file(f"file of {where}", path) for where, options in specs for path in _files_in(options)]
    for where, file in _weights(config):
        found.append(_published(where, file) if isinstance(file, WeightFile) else _file(where, file))
    once: dict[str, Need] = {}
    for need in found:
        once.setdefault(need.what.split(", of ")[0], need)
    return list(once.values())


def _data(config: Config | GenerationConfig) -> Need:
    """The splits that are read, first without a download where the class has that option."""
    if isinstance(config, Config):
        splits = [config.split]
    else:
        splits = [config.reference, *(["test" if config.reference == "train" else "train"] * config.real_images)]
    found_class = find_class(config.data["class_path"], ImageDataModule, where="data")
    offline = {"download": False} if "download" in named_parameters(found_class) else {}

    def built(options: dict[str, Any]) -> ImageDataModule:
        spec = config.data | {"init_args": config.data["init_args"] | options}
        return build(spec, ImageDataModule, where="data")

    def find() -> str:
        data = built(offline)
        try:
            data.prepare_data()
            counts = [f"{len(data.images(split)):,} {split} images" for split in splits]  # type: ignore[arg-type]
        except UserError:
            if offline:
                return ""
            raise
        return f"'{data.data_dir}' ({', '.join(counts)})"

    name = config.data["class_path"].rsplit(".", 1)[-1]
    fetch = (lambda: built({}).prepare_data()) if offline and config.data["init_args"].get("download", True) else None
    advice = "it is not there, and data.init_args.download is false: take that out where there is a network"
    return Need(f"data set {name}", find, fetch, advice)


def _prior(name: str, path: str, preset: str | None, trained_by: str | None) -> Need:
    what = f"prior '{name}', {path}"
    if is_hub_name(path):
        return Need(what, lambda: f"cache of the hub ({load_prior(path, preset=preset).fingerprint[:12]})")
    return _file(what, path, trained_by)


def _file(what: str, path: str, trained_by: str | None = None) -> Need:
    """A file or folder of this project's own, or of a person: nothing fetches it."""

    def find() -> str:
        place = Path(path)
        if place.is_dir():
            return f"'{path}'"
        return f"'{path}' ({_size(place)}{begun})" if place.is_file() else ""

    training = training_of(path, trained_by)
    begun = ", of a training that has not come to its end" if training and training.state == "begun" else ""
    how = f"train it, {training.command}" if training else "put it there, or give the path where it is"
    return Need(what if path in what else f"{what}, {path}", find, None, f"it is not there: {how}")


def _published(where: str, file: WeightFile) -> Need:
    def find() -> str:
        place = file.find()
        if place is None:
            return ""
        if not file.is_published(place):
            raise UserError(f"'{place}' is not the file that was published: delete it, and run --prepare again")
        return f"'{place}' ({_size(place)})"

    return Need(f"{file.what} ({file.name}, {file.megabytes} MB), of {where}", find, file.fetch, file.absence())


def _weights(config: Config | GenerationConfig) -> Iterator[tuple[str, WeightFile | str]]:
    """(what asks, file) of metrics and of their feature networks."""
    shared: list[tuple[str, Spec]] = []
    for asks, spec in _metrics(config):
        found = find_class(spec["class_path"], MetricBase, where=asks)
        try:
            files = found.weight_files(spec["init_args"])
        except ValueError as error:  # as building it would say
            raise UserError(f"{asks}: {error}") from error
        for file in files:
            yield asks, file
        if issubclass(found, InFeatures):
            own = spec["init_args"].get("features") or config.features
            if own is None:
                raise UserError(f"{asks} compares features: {GIVE_FEATURES}")
            shared.append((asks, _as_spec(own)))
    if isinstance(config, GenerationConfig):
        shared.append(("features", config.features))
    for where, spec in shared:
        network = find_class(spec["class_path"], FeatureNetwork, where=where)
        for file in (*network.weight_files(spec["init_args"]), *_files_in(spec["init_args"])):
            yield where if isinstance(file, WeightFile) else "feature network", file


def _metrics(config: Config | GenerationConfig) -> Iterator[tuple[str, Spec]]:
    """(where, what) of all metrics, those inside of others too."""
    for name, spec in config.metrics.items():
        where, inner = f"metrics.{name}", spec
        while inner is not None:
            yield where, inner
            where, held = f"{where}.metric", inner["init_args"].get("metric")
            inner = None if held is None else spec_of(held, where)


def _as_spec(value: Any) -> Spec:
    """Nested options are as they were written: a bare class path stands for a mapping."""
    return {"init_args": {}} | ({"class_path": value} if isinstance(value, str) else value)


def _files_in(options: Any) -> list[str]:
    """Paths among the values of options, however deep."""
    if isinstance(options, str):
        return [options] if options.endswith(FILES) else []
    inner = options.values() if isinstance(options, dict) else options if isinstance(options, list | tuple) else ()
    return [path for value in inner for path in _files_in(value)]


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
