"""What there is to choose from: the methods and degradations that the files of a folder define. A new file is a new
choice, there is no list.
"""

import importlib
import inspect
from typing import Any, TypeVar

from common.build import PROJECT
from common.errors import UserError, nearest
from degradations.base import Degradation

T = TypeVar("T")


def catalogue(folder: str, base: type[T]) -> dict[str, type[T]]:
    """The usable subclasses of `base` in the files of a project folder, by file name; by "file.Class" where a file has
    several.
    """
    found: dict[str, type[T]] = {}
    for path in sorted((PROJECT / folder).glob("[!_]*.py")):
        module = importlib.import_module(f"{folder.replace('/', '.')}.{path.stem}")
        own = [
            c
            for c in vars(module).values()
            if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__
        ]
        own = [c for c in own if not inspect.isabstract(c)]
        found.update({path.stem if len(own) == 1 else f"{path.stem}.{c.__name__}": c for c in own})
    return found


def degradations() -> dict[str, type[Degradation]]:
    """Those that a person can name for a picture: not those that draw their parameters, because nobody can draw again
    what happened to it. Where that depends on the options (a composition), they are asked when it is built.
    """
    return {
        name: c
        for name, c in catalogue("degradations", Degradation).items()
        if c.draw is Degradation.draw or c.draws is not Degradation.draws
    }


def choose(name: str, choices: dict[str, type[T]], option: str) -> type[T]:
    """The class by its name; UserError with the nearest name and all others where there is none."""
    if name not in choices:
        raise UserError(f"{option} '{name}' does not exist{nearest(name, choices)}; there are {', '.join(choices)}")
    return choices[name]


def listing(choices: dict[str, type[Any]], option: str) -> str:
    """Every class with what it does and its options, for a person to read."""
    parts = []
    for name, cls in choices.items():
        lines = [name + ("  (needs a prior)" if getattr(cls, "needs_prior", False) else "")]
        lines += [f"    {line.strip()}" for line in (inspect.getdoc(cls) or "").splitlines()]
        for key, parameter in inspect.signature(cls).parameters.items():
            if key == "prior":
                continue
            default = (
                ""
                if parameter.default is parameter.empty
                else "=" + ("null" if parameter.default is None else str(parameter.default))
            )
            lines.append(f"    --{option}.{key}{default}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
