"""Types in plain words."""

import pytest

from common.type_words import type_words


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        ("- Expected a <class 'float'>", "fast", "must be a number, got fast"),
        ("Expected a <class 'int'> or Expected a <class 'NoneType'>", None, "must be a whole number or null"),
        ("Expected a <class 'int'> Expected a <class 'float'>", "x", "must be a number, got x"),
        ("Expected a typing.Literal['a', 'b']", "c", "must be one of a, b, got c"),
        ("something else", "c", None),
    ],
)
def test_words(text, given, words):
    assert type_words(text, given) == words
