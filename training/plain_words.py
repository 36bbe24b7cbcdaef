"""What jsonargparse says about a configuration, as one sentence with the key, the value, the file and the fix."""

import inspect
import re
import sys
from collections.abc import Sequence

from common.build import find_class
from common.config_place import place
from common.errors import UserError, nearest
from common.type_words import type_words

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
    reason = _class(rest) or type_words(rest, None if given is None else given.group(1))
    return f"{where}: {reason or rest.removeprefix('- ')}"


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
