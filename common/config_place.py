"""Where a key of a configuration stands: among the words of the command line, or in which of its files."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

_ENTRY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*): (?=\S)")


def place(outer: str, inner: str, words: Sequence[str]) -> str:
    """The option `inner` of the entry `outer` as a person finds it: `--model.seed`, or `model.seed in 'FILE'` where it
    was no word of the command line.

    Args:
        outer: dotted keys of an entry, with or without init_args.
        inner: an option at any depth below it, or "" for the entry itself.
        words: the command line without the program's name.
    """
    key = _plain(f"{outer}.{inner}".rstrip("."))
    return _found(outer, inner, words) or f"--{key}"


def with_place(message: str, words: Sequence[str]) -> str:
    """`message`, "ENTRY: what is wrong with an option", with the option and where it stands in place of the entry:
    "tasks.box.degradation.size in 'FILE': size must be ...".

    The option is the first word of the sentence that the entry has as a key. Unchanged where the message does not begin
    with an entry of the configuration.
    """
    head = _ENTRY.match(message)
    if head is None:
        return message
    outer, reason = head.group(1), message[head.end() :]
    for word in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", reason)):
        where = _found(outer, word, words)
        if where is not None:
            return f"{where}: {reason}"
    where = _found(outer, "", words)
    return message if where is None else f"{where}: {reason}"


def _found(outer: str, inner: str, words: Sequence[str]) -> str | None:
    key = _plain(f"{outer}.{inner}".rstrip("."))
    if any(_plain(w.partition("=")[0]) == f"--{key}" for w in words):
        return f"--{key}"
    files = [b for a, b in pairwise(words) if a in ("-c", "--config")]
    files += [w.partition("=")[2] for w in words if w.startswith("--config=")]
    for name in reversed(files):
        try:
            content: Any = yaml.safe_load(Path(name).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        content = _entry(content, _plain(outer).split("."))
        if content is None:
            continue
        way = _way(content, inner) if inner else []
        if way is not None:
            return f"{'.'.join([_plain(outer), *way])} in '{name}'"
    return None


def _plain(key: str) -> str:
    """A dotted key as files are read: without init_args, which stands between a class and its options."""
    return key.replace(".init_args", "").removesuffix(".class_path")


def _entry(content: Any, keys: Sequence[str]) -> Any:
    """What stands below dotted keys, through init_args where they are written; None where there is nothing."""
    for key in keys:
        while isinstance(content, dict) and key not in content and isinstance(content.get("init_args"), dict):
            content = content["init_args"]
        if not isinstance(content, dict) or content.get(key) is None:
            return None
        content = content[key]
    return content


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
