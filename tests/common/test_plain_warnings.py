"""Warnings as one line, once; afterwards they are Python's again."""

import warnings

from common.plain_warnings import plain_warnings


def test_a_warning_is_one_line_and_said_once(capsys):
    before = warnings.showwarning
    with warnings.catch_warnings(), plain_warnings():
        warnings.simplefilter("always")
        for text in ("too\n  few", "too few", "another"):
            warnings.warn(text, stacklevel=1)
    assert capsys.readouterr().err == "warning: too few\nwarning: another\n"
    assert warnings.showwarning is before
