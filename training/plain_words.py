"""What jsonargparse says about a configuration, as one sentence with the key, the value, the file and the fix."""

import inspect
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from common.build import find_class
from common.errors import UserError, nearest

_TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text", "NoneType": "null"}
_KEY = re.compile(r'(?:- )?Parser key "([\w.]+)": ?')


def plain_words(text: str, words: Sequence[str]) -> str:
    """`text` in plain words; unchanged where it does not begin with a key.

    Args:
        text: the message of the parser, on one line.
        words: the command line: says whether a key stands there, or in which of its configs.
    """
    found = _KEY.match(text)
    if found is None:
        return text
    outer, inner, rest = found.group(1), "", text[found.end() :]
    given = re.search(r"(?:Got value|Given value): (?!NestedArg|\{)(.*?)(?= - Expected|$)", rest)
    if "Errors: - " in rest:  # the trials of a union: the first one's reason counts, the last is "Expected NoneType"
        rest = re.split(r" - Expected a <class 'NoneType'>| Given value type", rest.partition("Errors: - ")[2])[0]
    while found := _KEY.match(rest):
        inner, rest = found.group(1), rest[found.end() :]
    option = re.search(r"Option '([\w.]+)' is not accepted(.*)", rest)
    if option:
        inner, rest = option.group(1), f"there is no such option{option.group(2)}"
    word = re.search(r"NestedArg\(key='([\w.]+)'", text)
    where = place(outer, word.group(1) if word else inner, words)
    reason = _class(rest) or _type(rest, None if given is None else given.group(1))
    return f"{where}: {reason or rest.removeprefix('- ')}"


def place(outer: str, inner: str, words: Sequence[str]) -> str:
    """The option `inner` of the entry `outer` as a person finds it: `--model.seed`, or `model.seed in 'FILE'` where it
    was no word of the command line.
    """
    key = f"{outer}.{inner}".rstrip(".").replace(".init_args", "").removesuffix(".class_path")
    if any(w.partition("=")[0].replace(".init_args", "").removesuffix(".class_path") == f"--{key}" for w in words):
        return f"--{key}"
    files = [b for a, b in pairwise(words) if a in ("-c", "--config")]
    files += [w.partition("=")[2] for w in words if w.startswith("--config=")]
    for name in reversed(files):
        try:
            content: Any = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
            for part in outer.split("."):
                content = content[part]
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
            continue
        way = _way(content, inner) if inner else []
        if way is not None:
            return f"{'.'.join([outer, *way])} in '{name}'"
    return f"--{key}"


def _way(content: Any, key: str) -> list[str] | None:
    """The keys from `content` down to one called `key`, without init_args; None where there is none."""
    if not isinstance(content, dict):
        return None
    if key in content:
        return [key]
    for name, part in content.items():
        below = _way(part, key)
        if below is not None:
            return below if name == "init_args" else [name, *below]
    return None


def _class(rest: str) -> str | None:
    """A class path that names nothing, or something of another kind: with the nearest one."""
    found = re.search(r"Problem with given class_path '([\w.]+)': .*(?:has no attribute|No module named)", rest)
    if found is None:
        kind = re.search(r"Import path ([\w.]+) does not correspond to a subclass of (\w+)", rest)
        return f"'{kind.group(1)}' is no {kind.group(2)}: name a class that is one" if kind else None
    path = found.group(1)
    try:
        find_class(path, object, where="it")
    except UserError as error:
        module = sys.modules.get(path.rpartition(".")[0])
        if module is None:
            return str(error).partition(": ")[2]
        own = [n for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__]
        there = f"; {module.__name__} has {', '.join(own)}" if own else ""
        return f"there is no class '{path}'{nearest(path.rpartition('.')[2], own)}{there}"
    return None


def _type(rest: str, given: str | None) -> str | None:
    """ "must be a number or null, got 'fast'"."""
    kinds: list[str] = [_TYPES.get(name) or name for name in re.findall(r"Expected a <class '(?:\w+\.)*(\w+)'>", rest)]
    literals = re.findall(r"Expected a typing.Literal\[([^\]]*)\]", rest)
    choices = list(dict.fromkeys(c.strip().strip("'") for group in literals for c in group.split(",")))
    kinds += [f"one of {', '.join(choices)}" if len(choices) > 1 else c for c in choices[:1]]
    if not kinds:
        return None
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    return f"must be {' or '.join(dict.fromkeys(kinds))}{'' if given is None else f', got {given}'}"
