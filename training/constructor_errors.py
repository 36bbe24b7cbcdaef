"""A mistake that a constructor found in its options, said with the key of the configuration and where it stands."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from jsonargparse import Namespace

from common.config_place import with_place
from common.errors import UserError


def placed(error: Exception, options: Any, callbacks: dict[str, type], words: Sequence[str]) -> Exception:
    """The UserError to raise instead of `error`; `error` itself where it is none of a user's.

    The parser tries each type of a union, model or None, and tells of all trials: the reason is at the end of the chain
    of causes. Whose options they are is in its stack trace: the first constructor of a class that the configuration
    names.

    Args:
        error: what building the objects of a configuration ended with.
        options: the parsed options of the subcommand.
        callbacks: key -> class of the entries that have no class_path.
        words: the command line without the program's name.
    """
    reason: BaseException = error
    while not isinstance(reason, UserError) and reason.__cause__ is not None:
        reason = reason.__cause__
    if not isinstance(reason, (UserError, ValueError)) or (reason is error and not isinstance(error, UserError)):
        return error
    keys = {f"{c.__module__}.{c.__qualname__}": key for key, c in callbacks.items()} | dict(_entries(options, ""))
    for owner in _constructors(reason.__traceback__):
        key = keys.get(f"{owner.__module__}.{owner.__qualname__}")
        if key is not None:
            return UserError(with_place(f"{key}: {str(reason).removeprefix(f'{key}: ')}", words))
    return UserError(str(reason))


def _entries(options: Any, key: str) -> Iterator[tuple[str, str]]:
    """(class path, dotted key) of everything that a configuration builds."""
    if isinstance(options, (list, tuple)):
        for part in options:
            yield from _entries(part, key)
    if isinstance(options, Namespace):
        options = vars(options)  # its own items() are those of all depths
    if not isinstance(options, dict):
        return
    path = options.get("class_path")
    if isinstance(path, str):
        yield path, key
    for name, part in options.items():
        yield from _entries(part, key if name == "init_args" else f"{key}.{name}".lstrip("."))


def _constructors(trace: TracebackType | None) -> Iterator[type]:
    """The classes whose constructors the error went through, outermost first."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__init__" and "self" in frame.f_locals:
            yield type(frame.f_locals["self"])
        trace = trace.tb_next
