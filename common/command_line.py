"""The command lines that are argparse's: a mistake is one sentence."""

import argparse
import re
import sys
from typing import Any, NoReturn

from common.errors import UserError


class Parser(argparse.ArgumentParser):
    """Mistakes end as UserError, in one sentence without the usage in front of it; no abbreviated options, which hide a
    typing mistake.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        found = re.fullmatch(r"argument (?:.*/)?(--\w+)(?: .*)?: expected one argument", message)
        value = None if found is None else _word_after(found[1])
        if found is not None and value is not None:
            message = f"argument {found[1]}: {self._reason(found[1], value)}"
        raise UserError(f"{message}; see --help")

    def _reason(self, option: str, value: str) -> str:
        """Why argparse took no value where one is: it begins with a minus, and may be wrong besides."""
        kind = self._option_string_actions[option].type
        try:
            if callable(kind):
                kind(value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            return str(error)
        return f"the value '{value}' begins with -: write {option}={value}"


def at_least_one(text: str) -> int:
    """The type of options that count something; ArgumentTypeError for what is no whole number, or none of it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return int(text)


def _word_after(option: str) -> str | None:
    """What stands behind an option of this command, where it looks like a value with a minus."""
    words = sys.argv[1:]
    after = words[words.index(option) + 1 :][:1] if option in words else []
    return after[0] if after and re.match(r"-[^-]", after[0]) else None
