"""The command of a sweep file, with what W&B's agent puts in place of its macros."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import UserError

#: What W&B runs where a file names no command.
DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
#: Those that are honoured here, beside ${envvar:NAME}.
MACROS = (*DEFAULT, "${args_no_boolean_flags}")
_ARGUMENTS = ("${args}", "${args_no_boolean_flags}")
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def command_words(path: Path, content: dict[str, Any]) -> list[str]:
    """`script arguments... ${args} ...`, without what starts Python.

    ${envvar:NAME} is the variable NAME of this environment, and the word NAME where there is none, as with W&B's agent.

    Raises:
        UserError: a macro that is not honoured, no place for the parameters, a script that is not the program.
    """
    given = content.get("command") or list(DEFAULT)
    if not isinstance(given, list):
        raise UserError(f"'{path}': command must be a list of words, got {given!r}")
    words = [_ENVIRONMENT.sub(lambda m: os.environ.get(m[1], m[1]), str(word)) for word in given]
    words = [str(content.get("program")) if word == "${program}" else word for word in words if word != "${env}"]
    if words[:1] in (["python"], ["python3"], ["${interpreter}"]):
        words = words[1:]
    unknown = [w for w in words if "${" in w and w not in _ARGUMENTS]
    if unknown or sum(words.count(name) for name in _ARGUMENTS) != 1:
        raise UserError(
            f"'{path}': command must contain {' or '.join(_ARGUMENTS)} once and no macros but {', '.join(MACROS)},"
            f" ${{envvar:NAME}}, got {unknown[0] if unknown else content.get('command')}"
        )
    if not words[0].endswith(".py") or words[0] != str(content.get("program")):
        raise UserError(
            f"'{path}': program '{content.get('program')}' must be the script that command runs, '{words[0]}'"
        )
    return words


def filled(command: list[str], options: dict[str, Any]) -> tuple[str, ...]:
    """The command with --key=value for every parameter, character by character as W&B's agent writes it."""
    flags: dict[str, Callable[[], list[str]]] = {
        "${args}": lambda: [f"--{key}={value}" for key, value in options.items()],
        "${args_no_boolean_flags}": lambda: [
            f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items() if value is not False
        ],
    }
    return tuple(word for part in command for word in (flags[part]() if part in flags else [part]))
