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
        (
            "Subtypes: [<class 'a.b.Sampler'>, <class 'NoneType'>] Errors: - Problem with given class_path 'a.Heu':"
            " module 'a' has no attribute 'Heu' - Expected a <class 'NoneType'> Given value type: <class 'str'>",
            "a.Heu",
            "must be a Sampler (its class_path and init_args) or null, got a.Heu: module 'a' has no attribute 'Heu'",
        ),
        (
            "Subtypes: [<class 'a.b.Sampler'>, <class 'NoneType'>] Errors: - Not a valid subclass of Sampler Subclass"
            " types expect one of: - a class path (str) - a dict with class_path entry - Expected a <class 'NoneType'>",
            "3",
            "must be a Sampler (its class_path and init_args) or null, got 3",
        ),
        ("something else", "c", None),
    ],
)
def test_words(text, given, words):
    assert type_words(text, given) == words
