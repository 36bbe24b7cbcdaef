"""Objects from {class_path, init_args}: the class path in a config is the index of the code, checked before anything is
built.
"""

import contextlib
import importlib
import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

import jsonargparse
import yaml

from common.errors import UserError, nearest
from common.renamed import current, modernised
from common.type_words import type_words

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent


def find_class(class_path: str, base: type[T], *, where: str, project_only: bool = False) -> type[T]:
    """The class that `class_path` ("package.module.Class") names; `where` names the place in the config for the
    message.

    project_only: refuse, before importing anything, a class that is not one of this project's own files: what a
    checkpoint names must not run foreign code. Raises UserError where the module or class does not exist, is abstract,
    or is not a `base`.
    """
    class_path = current(str(class_path))
    module_name, _, name = class_path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in str(class_path).split(".")):
        raise UserError(f"{where}: class_path must be 'package.module.Class', got '{class_path}'")
    if project_only and not _is_of_project(module_name):
        raise UserError(
            f"{where} names the class '{class_path}', which is not one of this project's own: nothing was loaded"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(
            f"{where}: there is no module '{module_name}' for class_path"
            f" '{class_path}'{nearest(module_name, _modules(module_name))}"
        ) from error
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, base)) or inspect.isabstract(found):
        choices = [
            n
            for n, c in vars(module).items()
            if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)
        ]
        raise UserError(
            f"{where}: '{class_path}' is not a usable {base.__name__}; {module_name} has"
            f" {', '.join(choices) or 'none'}{nearest(name, choices)}"
        )
    if project_only and not _is_of_project(found.__module__):
        raise UserError(
            f"{where} names the class '{class_path}', which is defined outside of this project: nothing was loaded"
        )
    return found


def build(spec: dict[str, Any] | str, base: type[T], *, where: str, project_only: bool = False, **injected: Any) -> T:
    """Build {class_path, init_args} (or a bare class path) of a subclass of `base`; `injected` are arguments that a
    config may not give.

    Names, presence and types of the options are checked against the constructor's annotations. Raises UserError for an
    unknown option (with the nearest name), a missing or a mistyped one, and for whatever UserError or ValueError the
    constructor raises, with `where` before it.
    """
    if not isinstance(spec, str) and not hasattr(spec, "keys"):  # what a person wrote, whatever the annotation says
        raise UserError(f"{where}: expected a class path, or class_path and init_args, got {spec}")
    spec = {"class_path": spec} if isinstance(spec, str) else dict(spec)
    unknown = set(spec) - {"class_path", "init_args"}
    if unknown or "class_path" not in spec:
        extra = f"unknown key '{sorted(unknown)[0]}'" if unknown else "class_path is missing"
        raise UserError(f"{where}: expected class_path and init_args, {extra}")
    found = find_class(spec["class_path"], base, where=where, project_only=project_only)
    if project_only:
        _refuse_foreign(spec.get("init_args"), where)
    if not hasattr(spec.get("init_args") or {}, "keys"):
        raise UserError(f"{where}: init_args must be a mapping, 'option: value' each, got {spec['init_args']}")
    try:
        options = check_options(found, spec.get("init_args") or {}, where=where, skip=injected)
        return found(**options, **injected)
    except (UserError, ValueError, TypeError) as error:
        # A kind of its own (Missing) is no mistake in an option, and another layer's text.
        if isinstance(error, UserError) and (type(error) is not UserError or str(error).startswith(where)):
            raise
        raise UserError(f"{where}: {error}") from error


def check_options(cls: type, options: dict[str, Any], *, where: str, skip: Iterable[str] = ()) -> dict[str, Any]:
    """`options` checked and converted by the annotations of the constructor of `cls`, defaults filled in; UserError as
    in :func:`build`.
    """
    parameters = {n: p for n, p in named_parameters(cls).items() if n not in set(skip)}
    options = modernised(describe(cls, options), warn=False)["init_args"]
    for name in options:
        if name not in parameters:
            raise UserError(
                f"{where}: {cls.__name__} has no option '{name}'{nearest(name, parameters)}; it has"
                f" {', '.join(parameters) or 'none'}"
            )
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in options:
            raise UserError(f"{where}: {cls.__name__} needs the option '{name}'")
    _refuse_nan(options, where)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, skip=set(skip), sub_configs=False)
    try:
        return dict(parser.instantiate(parser.parse_object(options)))
    except jsonargparse.ArgumentError as error:
        reason = " ".join(str(error).split())
        key = re.match(r'Parser key "([\w.]+)": ', reason)
        given = re.search(r"(?:Got value|Given value): (.*?)(?= - Expected|$)", reason)
        words = type_words(reason, None if given is None else given.group(1))
        if key is None or words is None:
            raise UserError(f"{where}: an option of {cls.__name__} does not fit: {reason}") from error
        raise UserError(f"{where}: {key.group(1)} of {cls.__name__} {words}") from error


def describe(cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """The plain dictionary {class_path, init_args} that :func:`build` reads back."""
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": dict(options)}


class Recorded:
    """Remembers its constructor arguments: ``spec`` is the plain {class_path, init_args} that builds an equal object
    again.

    A mix-in for what a checkpoint must describe (networks, schedules). Arguments must be given by keyword and be plain
    or themselves Recorded. unrecorded: names of arguments that change how something is computed and not what; they are
    left out.
    """

    unrecorded: frozenset[str] = frozenset()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args:
            raise TypeError(f"{cls.__name__} takes keyword arguments only")
        instance = super().__new__(cls)
        # Past nn.Module's own __setattr__, which is not ready before its __init__; a deep copy carries it along with
        # the rest.
        instance.__dict__["_constructor_arguments"] = kwargs
        instance.__dict__["_constructed_class"] = cls  # torch's fully_shard gives a network a class of its own
        return instance

    @property
    def spec(self) -> dict[str, Any]:
        return describe(
            self.__dict__.get("_constructed_class", type(self)),
            {k: plain(v) for k, v in self.__dict__["_constructor_arguments"].items() if k not in self.unrecorded},
        )


def plain(value: Any) -> Any:
    """Recorded objects, and lists and dictionaries of them, as what describes them; TypeError for other objects."""
    if isinstance(value, Recorded):
        return value.spec
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a recorded constructor argument must be plain, got {type(value).__name__}")


def named_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's named parameters; where it takes ``**options`` for its base class, those of the base
    class too.
    """
    found: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if owner is object or "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(owner.__init__).parameters.values())[1:]
        for p in own:
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                found.setdefault(p.name, p)
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return found


def _refuse_nan(value: Any, where: str) -> None:
    """UserError for NaN, which no option can mean, at any depth; before comparisons, which it passes or fails alike."""
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is NaN, which is not a number: give one")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, part in inner:
        _refuse_nan(part, f"{where}.{key}")


def _refuse_foreign(value: Any, where: str) -> None:
    """UserError where a nested {class_path, init_args} names a class that is not this project's own; before anything is
    imported.
    """
    # where a class is expected, the parser takes its bare path too, and YAML of the dictionary
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError, ValueError):
            value = yaml.safe_load(value)
        if isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split(".")):
            top = value.partition(".")[0]
            if not _is_of_project(value.rpartition(".")[0]) and (
                top in sys.modules or importlib.util.find_spec(top) is not None
            ):
                raise UserError(f"{where} names '{value}', which is not one of this project's own: nothing was loaded")
    if isinstance(value, dict):
        if "class_path" in value:
            find_class(value["class_path"], object, where=where, project_only=True)
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_foreign(inner, where)


def _is_of_project(module_name: str) -> bool:
    """Whether a module is a file of this project, found without importing it."""
    parts = module_name.split(".")
    path = PROJECT.joinpath(*parts)
    project_packages = {p.parent.name for p in PROJECT.glob("*/__init__.py")}
    return parts[0] in project_packages and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def _modules(module_name: str) -> list[str]:
    folder = module_name.split(".")[0]
    root = PROJECT / folder
    return [".".join(p.relative_to(PROJECT).with_suffix("").parts) for p in root.rglob("*.py")] if root.is_dir() else []
