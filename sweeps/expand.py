"""A W&B sweep file as a numbered list of commands, without a server."""

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest

#: What W&B reads at the top of a sweep file, https://docs.wandb.ai/guides/sweeps/sweep-config-keys
TOP_KEYS = (
    "program",
    "name",
    "description",
    "method",
    "metric",
    "parameters",
    "command",
    "early_terminate",
    "entity",
    "project",
    "run_cap",
)
MACROS = ("${env}", "${interpreter}", "${program}", "${args}")


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
    """A grid. swept: the parameters with more than one value, in the order of the file. metric: what it is about, and
    whether less is better.
    """

    path: Path
    name: str
    swept: tuple[str, ...]
    metric: str
    minimize: bool
    combinations: tuple[Combination, ...]

    @property
    def fingerprint(self) -> str:
        """Of the numbers and what they run: a job array that was made from another version of the file is refused by
        it.
        """
        text = json.dumps([[c.name, c.words] for c in self.combinations])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_sweep(path: str | Path) -> Sweep:
    """The combinations of a sweep file of W&B, in the order of the file, the last parameter changing fastest.

    UserError where the file is not a grid of ``values`` and ``value``, which is what can be listed, or says something
    W&B does not know.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"the sweep file '{path}' cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise UserError(f"the sweep file '{path}' holds no mapping: see configs/sweeps/ for examples")
    for key in content:
        if key not in TOP_KEYS:
            raise UserError(f"'{path}': '{key}' is no key of a W&B sweep{nearest(key, TOP_KEYS)}")
    if content.get("method") != "grid":
        raise UserError(
            f"'{path}': method must be grid to be expanded without a server, got '{content.get('method')}'; for others"
            " use wandb agent"
        )
    metric = content.get("metric")
    if (
        not isinstance(metric, dict)
        or not isinstance(metric.get("name"), str)
        or metric.get("goal") not in ("minimize", "maximize")
    ):
        raise UserError(f"'{path}': metric must be {{name: ..., goal: minimize or maximize}}, got {metric!r}")
    values = {key: _values(path, key, entry) for key, entry in (content.get("parameters") or {}).items()}
    if not values:
        raise UserError(f"'{path}': parameters is empty: give at least one")
    command = _command(path, content)
    swept = tuple(key for key, choices in values.items() if len(choices) > 1)
    options = [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    return Sweep(
        path=path,
        name=str(content.get("name") or path.stem),
        swept=swept,
        metric=metric["name"],
        minimize=metric["goal"] == "minimize",
        combinations=tuple(
            Combination(number=number, name=name, options=chosen, words=_words(command, chosen))
            for number, (name, chosen) in enumerate(zip(_names(swept, options), options, strict=True))
        ),
    )


def _values(path: Path, key: str, entry: object) -> list[Any]:
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
        raise UserError(f"'{path}': '{key}' is no name of a parameter: letters, digits, '_', '.' and '-'")
    if (
        not isinstance(entry, dict)
        or len(given := set(entry) - {"distribution"}) != 1
        or not given <= {"value", "values"}
    ):
        raise UserError(
            f"'{path}': parameter '{key}' must be {{value: ...}} or {{values: [...]}}, with dotted keys instead of"
            f" nested ones, got {entry!r}"
        )
    choices = [entry["value"]] if "value" in entry else entry["values"]
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


def _command(path: Path, content: dict[str, Any]) -> list[str]:
    """`script arguments... ${args} ...`, without what starts Python."""
    command = [str(word) for word in content.get("command") or MACROS]
    command = [str(content.get("program")) if word == "${program}" else word for word in command if word != "${env}"]
    if command[:1] in (["python"], ["python3"], ["${interpreter}"]):
        command = command[1:]
    unknown = [w for w in command if w.startswith("${") and w != "${args}"]
    if unknown or command.count("${args}") != 1:
        raise UserError(
            f"'{path}': command must contain ${{args}} once and no macros but {', '.join(MACROS)}, got"
            f" {content.get('command')}"
        )
    if not command[0].endswith(".py") or command[0] != str(content.get("program")):
        raise UserError(
            f"'{path}': program '{content.get('program')}' must be the script that command runs, '{command[0]}'"
        )
    return command


def _words(command: list[str], options: dict[str, Any]) -> tuple[str, ...]:
    """The command with --key=value for every parameter, character by character as W&B's agent writes it."""
    flags = [f"--{key}={value}" for key, value in options.items()]
    return tuple(word for part in command for word in (flags if part == "${args}" else [part]))


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
