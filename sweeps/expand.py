"""A W&B sweep file as a numbered list of commands, without a server."""

import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest
from common.yaml_files import read_yaml
from sweeps.command import command_words, filled

#: What W&B reads at the top of a sweep file, https://docs.wandb.ai/guides/sweeps/sweep-config-keys
TOP_KEYS = (
    "program",
    "name",
    "description",
    "method",
    "metric",
    "parameters",
    "command",
    "controller",
    "entity",
    "project",
    "run_cap",
)
#: What W&B knows too, and nothing here does: a run would be another one than it says.
NOT_HONOURED = {
    "early_terminate": "no run is ended early without a server",
    "job": "jobs of W&B Launch are not started here",
    "image_uri": "images of W&B Launch are not started here",
    "imageuri": "images of W&B Launch are not started here",
    "scheduler": "there is no W&B Launch here",
}
DISTRIBUTIONS = ("categorical", "constant", "int_uniform", "q_uniform")


@dataclass(frozen=True)
class Combination:
    """One run of a sweep. number: its place, from 0. name: unique in the sweep. options: every parameter of the file.
    words: `script arguments...`.
    """

    number: int
    name: str
    options: dict[str, Any]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """A grid. swept: the parameters with more than one value, in the order of the file. metric: what it is about, None
    where the file does not say, and whether less is better. project, entity: of W&B, where the runs are logged.
    """

    path: Path
    name: str
    swept: tuple[str, ...]
    metric: str | None
    minimize: bool
    combinations: tuple[Combination, ...]
    project: str | None = None
    entity: str | None = None

    @property
    def fingerprint(self) -> str:
        """Of the numbers and what they run: a job array that was made from another version of the file is refused by
        it.
        """
        text = json.dumps([[c.name, c.words] for c in self.combinations])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_sweep(path: str | Path) -> Sweep:
    """The combinations of a sweep file of W&B, in the order of the file, the last parameter changing fastest.

    UserError where the file is not a grid, which is what can be listed, or says something that W&B does not know or
    that is not honoured here. ``run_cap`` ends the list, as it ends the sweep with a server.
    """
    path = Path(path)
    read_yaml(path, "the sweep file")  # which says what is wrong with it, and where
    content = yaml.safe_load(path.read_text(encoding="utf-8"))  # as W&B reads it: 1e-3 stays a word
    for key in content:
        if key in NOT_HONOURED:
            raise UserError(f"'{path}': {key} is known to W&B and not honoured here ({NOT_HONOURED[key]}): remove it")
        if key not in TOP_KEYS:
            raise UserError(f"'{path}': '{key}' is no key of a W&B sweep{nearest(key, TOP_KEYS)}")
    if content.get("method") != "grid":
        raise UserError(
            f"'{path}': method must be grid to be expanded without a server, got '{content.get('method')}'; for others"
            " use wandb agent"
        )
    metric, cap = _metric(path, content), content.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise UserError(f"'{path}': run_cap must be a whole number of at least 1, got {cap!r}")
    controller = content.get("controller", {"type": "cloud"})
    if not isinstance(controller, dict) or controller.get("type") not in ("cloud", "local"):
        raise UserError(f"'{path}': controller must be {{type: cloud or local}}, got {controller!r}")
    values = {key: _values(path, key, entry) for key, entry in (content.get("parameters") or {}).items()}
    if not values:
        raise UserError(f"'{path}': parameters is empty: give at least one")
    command = command_words(path, content)
    swept = tuple(key for key, choices in values.items() if len(choices) > 1)
    options = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.islice(itertools.product(*values.values()), cap)
    ]
    return Sweep(
        path=path,
        name=str(content.get("name") or path.stem),
        swept=swept,
        metric=metric.get("name"),
        minimize=metric.get("goal", "minimize") == "minimize",
        project=content.get("project"),
        entity=content.get("entity"),
        combinations=tuple(
            Combination(number=number, name=name, options=chosen, words=filled(command, chosen))
            for number, (name, chosen) in enumerate(zip(_names(swept, options), options, strict=True))
        ),
    )


def _metric(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """{} where the file names none, which a grid needs not; W&B minimises what has no goal."""
    metric = content.get("metric") or {}
    if (
        not isinstance(metric, dict)
        or (metric and not isinstance(metric.get("name"), str))
        or metric.get("goal", "minimize") not in ("minimize", "maximize")
    ):
        raise UserError(f"'{path}': metric must be {{name: ..., goal: minimize or maximize}}, got {metric!r}")
    return metric


def _choices(path: Path, key: str, entry: object) -> Any:
    """What a grid of W&B takes for one parameter: values, one value, or the steps of a range."""
    given = set(entry) - {"distribution"} if isinstance(entry, dict) else set()
    if not isinstance(entry, dict) or given not in ({"value"}, {"values"}, {"min", "max"}, {"min", "max", "q"}):
        raise UserError(
            f"'{path}': parameter '{key}' must be {{value: ...}}, {{values: [...]}}, or min and max of int_uniform or"
            f" q_uniform, with dotted keys instead of nested ones, got {entry!r}"
        )
    kind = entry.get("distribution")
    if kind is not None and kind not in DISTRIBUTIONS:
        raise UserError(
            f"'{path}': parameter '{key}' has the distribution '{kind}', and a grid knows {', '.join(DISTRIBUTIONS)}"
        )
    if "min" not in given:
        return [entry["value"]] if "value" in entry else entry["values"]
    low, high, step = entry["min"], entry["max"], entry.get("q", 1)
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (low, high))
    if kind in (None, "int_uniform") and whole and "q" not in given:
        return list(range(low, high + 1))
    if kind == "q_uniform" and all(isinstance(v, (int, float)) for v in (low, high, step)) and step > 0:
        return [low + k * step for k in range(math.ceil((high - low) / step))]  # without its end, as W&B's grid search
    raise UserError(
        f"'{path}': parameter '{key}' is a range without steps, got {entry!r}: give whole min and max, or distribution:"
        " q_uniform with min, max and q"
    )


def _values(path: Path, key: str, entry: object) -> list[Any]:
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
        raise UserError(f"'{path}': '{key}' is no name of a parameter: letters, digits, '_', '.' and '-'")
    choices = _choices(path, key, entry)
    if not isinstance(choices, list) or not choices:
        raise UserError(f"'{path}': values of '{key}' must be a list that is not empty, got {choices!r}")
    if len({json.dumps(c, sort_keys=True) for c in choices}) < len(choices):
        raise UserError(f"'{path}': values of '{key}' stand there twice: {choices!r}")
    if any("None" in repr(c) for c in choices):
        # The agent writes Python's str(value), and a YAML reader takes None for a word.
        raise UserError(
            f"'{path}': a value of '{key}' is null, which W&B's agent passes as the word None: write the text \"null\""
        )
    return choices


def _names(swept: tuple[str, ...], options: list[dict[str, Any]]) -> list[str]:
    """Short, readable, unique, fit for a folder: the swept values; numbers with the last part of their key, or all of
    them with it where they would collide.
    """
    if not swept:
        return ["only"]
    for explicit in (False, True):
        keys = short_keys(swept)
        names = ["-".join(_part(keys[k], chosen[k], explicit) for k in swept) for chosen in options]
        if len(set(names)) == len(names):
            return names
    return [f"{number:03d}-{name}" for number, name in enumerate(names)]


def is_seed(key: str) -> bool:
    """Whether a parameter repeats a run instead of changing what it is."""
    return key.split(".")[-1] in ("seed", "seed_everything")


def short_keys(keys: tuple[str, ...]) -> dict[str, str]:
    """The last part of every dotted key, with as many before it as make it unique."""
    parts = {k: [p for p in k.split(".") if p not in ("init_args", "class_path")] or [k] for k in keys}
    for length in range(1, 1 + max(map(len, parts.values()), default=0)):
        short = {k: ".".join(p[-length:]) for k, p in parts.items()}
        if len(set(short.values())) == len(keys):
            return short
    return {k: k for k in keys}


def short_value(value: object) -> str:
    """A class without its module, a dictionary as its class and arguments, anything else as it is."""
    if isinstance(value, dict):
        rest = {**value, **(value.get("init_args") or {})}
        head = [short_value(rest.pop("class_path"))] if "class_path" in rest else []
        rest.pop("init_args", None)
        return " ".join([*head, *(f"{k}={short_value(v)}" for k, v in rest.items())])
    if isinstance(value, list):
        return " ".join(map(short_value, value))
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        return value.rsplit(".", 1)[1]
    return str(value)


def _part(key: str, value: object, explicit: bool) -> str:
    text = short_value(value)
    if isinstance(value, (bool, int, float)) or explicit:
        text = f"{key}_{text}"
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_.") or "empty"
