"""Mistakes on the command lines that are argparse's."""

import argparse
import sys
from pathlib import Path

import pytest

from common.command_line import Parser, at_least_one
from common.errors import UserError


def whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, got '{text}'")
    return int(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "-1/3"], "argument --count: must be a whole number, got '-1/3'; see --help"),
        (["--count=-1/3"], "argument --count: must be a whole number, got '-1/3'; see --help"),
        (["--name", "-x"], "argument --name: the value '-x' begins with -: write --name=-x; see --help"),
        (["--name", "--count", "3"], "argument --name: expected one argument; see --help"),
        (["--name"], "argument --name: expected one argument; see --help"),
    ],
)
def test_a_value_with_a_minus_is_named(words, message, monkeypatch):
    """argparse says of it that there is none."""
    parser = Parser()
    parser.add_argument("--count", type=whole)
    parser.add_argument("--name")
    monkeypatch.setattr(sys, "argv", ["program.py", *words])
    with pytest.raises(UserError) as error:
        parser.parse_known_args()
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "nan"])
def test_what_counts_something_is_at_least_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number of at least 1"):
        at_least_one(text)
    assert at_least_one("12") == 12


def test_no_benchmark_takes_any_number_for_a_count():
    """No rounds ended in StatisticsError, no images in ZeroDivisionError."""
    files = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))
    assert len(files) > 10 and not [f.name for f in files if "type=int" in f.read_text()]
