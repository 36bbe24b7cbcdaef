"""What an evaluation is asked to do, as frozen dataclasses read from YAML files and the command line."""

import copy
import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError, nearest
from common.yaml_files import merge, override, read_yaml
from evaluation.entries import Spec, a_mapping, known_keys, named_entries, optional_number, spec_of, whole_number
from evaluation.prior_entry import Prior, plain_priors, prior_of
from evaluation.report.wandb_entry import WandbEntry

DEFAULT_METRICS: dict[str, Spec] = {
    "psnr": {"class_path": "metrics.psnr.PSNR", "init_args": {}},
    "ssim": {"class_path": "metrics.ssim.SSIM", "init_args": {}},
    "consistency": {"class_path": "metrics.consistency.Consistency", "init_args": {}},
    "psnr_mean": {"class_path": "metrics.psnr_mean.PSNRMean", "init_args": {}},
    "pairwise_rmse": {"class_path": "metrics.pairwise_rmse.PairwiseRMSE", "init_args": {}},
    "calibration": {"class_path": "metrics.calibration.Calibration", "init_args": {}},
}

#: Added to them where `features` names a network.
FEATURE_METRICS: dict[str, Spec] = {
    "fid": {"class_path": "metrics.fid.FID", "init_args": {}},
    "kid": {"class_path": "metrics.kid.KID", "init_args": {}},
}


@dataclass(frozen=True)
class Task:
    """What happened to the images: a degradation and noise, each {class_path, init_args}; limit: only the first so many
    images.
    """

    degradation: Spec
    noise: Spec
    limit: int | None = None


@dataclass(frozen=True)
class MethodEntry:
    """How they are restored: {class_path, init_args}, the name of the prior, samples per image, the tasks (None: all),
    only the first `limit` images of each, and per_task, options that replace those of init_args in one task.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    prior: str = "default"
    num_samples: int = 1
    tasks: tuple[str, ...] | None = None
    limit: int | None = None
    per_task: dict[str, dict[str, Any]] = field(default_factory=dict)

    def options(self, task: str) -> dict[str, Any]:
        """The constructor arguments in a task."""
        return {**self.init_args, **self.per_task.get(task, {})}


@dataclass(frozen=True)
class Config:
    """One evaluation: every task with every method on the first `limit` images of a split. metrics: of one image, of
    several samples, of a set of images, by class path. features: the network of those that compare sets, unless they
    name their own; with it come FID and KID. wandb: where the table is logged.
    """

    data: Spec
    tasks: dict[str, Task]
    methods: dict[str, MethodEntry]
    metrics: dict[str, Spec]
    priors: dict[str, Prior] = field(default_factory=dict)
    split: str = "test"
    seed: int = 0
    limit: int | None = None
    batch_size: int = 64
    skip_unsupported: bool = False
    any_size: bool = False
    title: str = ""
    features: Spec | None = None
    wandb: WandbEntry = field(default_factory=WandbEntry)

    def plain(self) -> dict[str, Any]:
        """As dictionaries and lists, for YAML and for comparing."""
        plain = dataclasses.asdict(self)
        for entry in plain["methods"].values():
            entry["tasks"] = list(entry["tasks"]) if entry["tasks"] is not None else None
            for key in ("limit", "per_task"):  # files of before they existed have no such key
                if not entry[key]:
                    del entry[key]
        plain["priors"] = plain_priors(self.priors)
        return plain


def read_config(paths: Sequence[str | Path], overrides: Sequence[tuple[str, str]] = ()) -> Config:
    """Merge the files from left to right, apply (dotted path, YAML value) overrides, check. Raises UserError that names
    file or option and key.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        content = read_yaml(path)
        known_keys(content, Config, f"--config '{path}'")
        merged = written_out(merge(merged, content))
    for dotted, text in overrides:
        head = dotted.split(".")[0]
        known = [f.name for f in dataclasses.fields(Config)]
        if head not in known:
            raise UserError(f"there is no option --{dotted}{nearest(head, known)}; see --help")
        merged = written_out(override(merged, dotted, text))
    return parse_config(merged, " + ".join(f"'{p}'" for p in paths) or "the configuration")


def parse_config(raw: dict[str, Any], where: str) -> Config:
    """A checked Config from plain dictionaries; `where` names the files for the messages."""
    known_keys(raw, Config, where)
    raw = copy.deepcopy(raw)
    for key in ("data", "tasks", "methods"):
        if not raw.get(key):
            raise UserError(f"{where}: '{key}' is missing or empty")
    tasks = {n: _task(v, f"{where}, tasks.{n}") for n, v in named_entries(raw, "tasks", where)}
    methods = {n: _method(v, f"{where}, methods.{n}") for n, v in named_entries(raw, "methods", where)}
    priors = {n: prior_of(v, f"{where}, priors.{n}") for n, v in named_entries(raw, "priors", where)}
    if not tasks or not methods:
        raise UserError(
            f"{where}: every entry of '{'methods' if tasks else 'tasks'}' was removed (null): keep at least one"
        )
    defaults = DEFAULT_METRICS | (FEATURE_METRICS if raw.get("features") is not None else {})
    raw["metrics"] = merge(defaults, a_mapping(raw.get("metrics") or {}, f"{where}, metrics"))
    metrics = {n: spec_of(v, f"{where}, metrics.{n}") for n, v in named_entries(raw, "metrics", where)}
    removed = set(raw["tasks"]) - set(tasks)
    methods = {n: _on_tasks(method, tasks, removed, f"{where}, methods.{n}") for n, method in methods.items()}
    split = raw.get("split", "test")
    if split not in ("test", "validation", "train"):
        raise UserError(f"{where}: split must be test, validation or train, got '{split}'")
    asked = {key: raw.get(key, False) for key in ("skip_unsupported", "any_size")}
    for key, value in asked.items():
        if not isinstance(value, bool):
            raise UserError(f"{where}: {key} must be true or false, got {value!r}")
    wandb = known_keys(a_mapping(raw.get("wandb") or {}, f"{where}, wandb"), WandbEntry, f"{where}, wandb")
    return Config(
        data=spec_of(raw["data"], f"{where}, data"),
        tasks=tasks,
        methods=methods,
        metrics=metrics,
        priors=priors,
        split=split,
        seed=whole_number(raw.get("seed", 0), 0, f"{where}, seed"),
        limit=optional_number(raw.get("limit"), f"{where}, limit"),
        batch_size=whole_number(raw.get("batch_size", 64), 1, f"{where}, batch_size"),
        **asked,
        title=str(raw.get("title") or ""),
        wandb=WandbEntry(**wandb).check(where),
        features=None if raw.get("features") is None else spec_of(raw["features"], f"{where}, features"),
    )


def written_out(raw: dict[str, Any]) -> dict[str, Any]:
    """A bare class path, or path of a prior, as the mapping that it stands for, so that a later file or option can
    change an entry of it.
    """

    def mapping(value: Any, key: str) -> Any:
        return {key: value} if isinstance(value, str) else value

    def entries(section: str, key: str) -> None:
        if isinstance(raw.get(section), dict):
            raw[section] = {name: mapping(value, key) for name, value in raw[section].items()}

    for key in ("data", "features"):
        if key in raw:
            raw[key] = mapping(raw[key], "class_path")
    entries("methods", "class_path")
    entries("metrics", "class_path")
    entries("priors", "path")
    for task in raw["tasks"].values() if isinstance(raw.get("tasks"), dict) else ():
        for key in ("degradation", "noise"):
            if isinstance(task, dict) and key in task:
                task[key] = mapping(task[key], "class_path")
    return raw


def _task(value: Any, where: str) -> Task:
    value = known_keys(a_mapping(value, where), Task, where)
    if "degradation" not in value:
        raise UserError(f"{where}: degradation is missing; write degradation: {{class_path: ..., init_args: {{...}}}}")
    noise = value.get("noise", {"sigma": 0.0})
    if isinstance(noise, dict) and "class_path" not in noise:
        noise = {"class_path": "degradations.noise.GaussianNoise", "init_args": noise}
    return Task(
        degradation=spec_of(value["degradation"], f"{where}.degradation"),
        noise=spec_of(noise, f"{where}.noise"),
        limit=optional_number(value.get("limit"), f"{where}.limit"),
    )


def _on_tasks(method: MethodEntry, tasks: Collection[str], removed: Collection[str], where: str) -> MethodEntry:
    """The entry without what it says of tasks that were removed; UserError for tasks that never were."""
    for key, named in (("tasks", method.tasks or ()), ("per_task", method.per_task)):
        for task in named:
            if task not in tasks and task not in removed:
                raise UserError(
                    f"{where}.{key}: there is no task '{task}'{nearest(task, tasks)}; there are {', '.join(tasks)}"
                )
    kept = None if method.tasks is None else tuple(t for t in method.tasks if t in tasks)
    return dataclasses.replace(
        method, tasks=kept, per_task={t: options for t, options in method.per_task.items() if t in tasks}
    )


def _method(value: Any, where: str) -> MethodEntry:
    value = known_keys({"class_path": value} if isinstance(value, str) else a_mapping(value, where), MethodEntry, where)
    spec = spec_of({k: v for k, v in value.items() if k in ("class_path", "init_args")}, where)
    tasks = value.get("tasks")
    if tasks is not None and (not isinstance(tasks, list) or not all(isinstance(t, str) for t in tasks)):
        raise UserError(f"{where}.tasks must be a list of task names, got {tasks!r}")
    prior = value.get("prior", "default")
    if not isinstance(prior, str):
        raise UserError(f"{where}.prior must be the name of an entry of priors, got {prior!r}")
    per_task = a_mapping(value.get("per_task") or {}, f"{where}.per_task")
    return MethodEntry(
        **spec,
        prior=prior,
        num_samples=whole_number(value.get("num_samples", 1), 1, f"{where}.num_samples"),
        tasks=tuple(tasks) if tasks is not None else None,
        limit=optional_number(value.get("limit"), f"{where}.limit"),
        per_task={
            task: a_mapping(options, f"{where}.per_task.{task}")
            for task, options in per_task.items()
            if options is not None
        },
    )
