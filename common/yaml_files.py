"""Strict YAML: duplicates are refused, several files are merged, the command line changes single entries."""

import copy
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.renamed import modernised

# A noise level is given in one unit: a later file or option that gives it in another unit replaces it.
_UNITS = frozenset({"sigma", "sigma_255", "sigma_unit"})


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that is written twice is a mistake; 1e-3 is a number (YAML 1.1 reads a string)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # "<<: *anchor" may meet keys that it does not replace
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not a word, write it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> Any:
        text = self.construct_scalar(node)
        if node.style is None and "e" in text.lower() and text[:1] in "+-.0123456789":
            try:
                return float(text)
            except ValueError:
                return text
        return text


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_yaml_str)


def read_yaml(path: str | Path, option: str = "--config") -> dict[str, Any]:
    """The mapping in a YAML file; UserError that names file and place where it is missing, empty, malformed or
    not a mapping; option: what the messages call it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{option} '{path}' does not exist: the configurations that come with the project are in configs/evaluate"
        ) from error
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise UserError(f"{option} '{path}' is not a text file: give the path of a .yaml file") from error
    except OSError as error:
        raise UserError(f"{option} '{path}' cannot be read ({error.strerror or error})") from error
    content = _parse(text, f"{option} '{path}'")
    if content is None:
        raise UserError(f"{option} '{path}' is empty: give a file with entries, such as those in configs/")
    if not isinstance(content, dict):
        raise UserError(
            f"{option} '{path}' must be a mapping, 'key: value' line by line, such as the files in configs/, and it is"
            f" a {type(content).__name__}"
        )
    return content


def _parse(text: str, where: str) -> Any:
    try:
        return modernised(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML ({error})") from error


def merge(base: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """`later` over `base`, key by key at every depth; lists and plain values replace; another class_path starts with no
    init_args of the old one.
    """
    merged = copy.deepcopy(base)
    if "class_path" in later and later["class_path"] != merged.get("class_path", later["class_path"]):
        merged.pop("init_args", None)
    if _UNITS & set(later):
        merged = {key: value for key, value in merged.items() if key not in _UNITS}
    for key, value in later.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def override(config: dict[str, Any], dotted: str, text: str) -> dict[str, Any]:
    """`config` with the entry at a dotted path ("methods.dps.init_args.scale") replaced, or merged where the value is a
    mapping in YAML.
    """
    value = _parse(text, f"--{dotted}={text}")
    path = dotted.split(".")
    if not all(path):
        raise UserError(f"--{dotted} is not a path of names with single dots")
    node: Any = config
    for depth, key in enumerate(path):
        if not isinstance(node, dict):
            raise UserError(f"--{dotted} goes into '{'.'.join(path[:depth])}', which is {node!r} and has no entries")
        node = node.get(key) if node.get(key) is not None else {}
    for key in reversed(path):
        value = {key: value}
    return merge(config, value)
