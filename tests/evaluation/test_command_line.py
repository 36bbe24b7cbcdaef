"""evaluate.py --help says what every key of a configuration means."""

import dataclasses

import pytest

from evaluation.command_line import GENERATION_KEYS, RESTORATION_KEYS, make_parser
from evaluation.config import Config
from evaluation.generation.config import GenerationConfig


@pytest.mark.parametrize(("keys", "read_by"), [(RESTORATION_KEYS, Config), (GENERATION_KEYS, GenerationConfig)])
def test_every_key_of_a_configuration_has_its_words(keys, read_by):
    assert set(keys) == {f.name for f in dataclasses.fields(read_by)}
    text = make_parser().format_help()
    assert all(key in text and len(words.split()) > 1 and words in text for key, words in keys.items())


def test_every_option_has_its_words():
    actions = make_parser()._actions
    assert len(actions) > 9 and all(a.help for a in actions)
