"""The parts that entries of a configuration are made of, checked; every message names the place."""

import dataclasses
import re
from typing import Any

from common.errors import UserError, nearest

#: {class_path, init_args}
Spec = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


def spec_of(value: Any, where: str) -> Spec:
    """{class_path, init_args} from itself or from a bare class path; UserError for anything else."""
    if isinstance(value, str):
        value = {"class_path": value}
    value = a_mapping(value, where)
    unknown = sorted(set(value) - {"class_path", "init_args"})
    if unknown:
        raise UserError(
            f"{where}: unknown key '{unknown[0]}'{nearest(unknown[0], ('class_path', 'init_args'))}; it has class_path"
            " and init_args"
        )
    if not isinstance(value.get("class_path"), str):
        raise UserError(f"{where}: class_path is missing; write class_path: package.module.Class")
    return {
        "class_path": value["class_path"],
        "init_args": a_mapping(value.get("init_args") or {}, f"{where}.init_args"),
    }


def named_entries(raw: dict[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    """The entries of a mapping by name; one that is null was removed by a later file. Names become folders, so they are
    plain words.
    """
    entries = a_mapping(raw.get(key) or {}, f"{where}, {key}")
    for name in entries:
        if not NAME.fullmatch(name):
            raise UserError(
                f"{where}, {key}: '{name}' is not a usable name: letters, digits, '_', '+' and '-', because it names a"
                " folder"
            )
    return [(n, v) for n, v in entries.items() if v is not None]


def known_keys(value: dict[str, Any], cls: type, where: str) -> dict[str, Any]:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in value:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, known)}; the keys are {', '.join(known)}")
    return value


def a_mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a mapping, got {value!r}")
    return value


def whole_number(value: Any, least: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{where} must be a whole number of at least {least}, got {value!r}")
    return value


def optional_number(value: Any, where: str, least: int = 1) -> int | None:
    return None if value is None else whole_number(value, least, where)
