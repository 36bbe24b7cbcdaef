"""A key of a configuration is found among the words of the command line, or in the last file that has it."""

import pytest
import yaml

from common.config_place import place, with_place

CONTENT = {
    "model": {"class_path": "a.B", "init_args": {"network": {"class_path": "c.D", "init_args": {"dropout": 7}}}},
    "tasks": {"box": {"degradation": {"class_path": "e.F", "init_args": {"size": -1}}, "noise": {"sigma_255": -3}}},
    "ema": {"ramp": -1},
}


@pytest.fixture
def words(tmp_path):
    (tmp_path / "it's a.yaml").write_text(yaml.safe_dump(CONTENT))
    (tmp_path / "b.yaml").write_text("ema: {ramp: 2}\n")
    return ["fit", "--config", str(tmp_path / "it's a.yaml"), f"--config={tmp_path / 'b.yaml'}"]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ("model.network: dropout of the U-Net must be in [0, 1)", "model.network.dropout in '{}it's a.yaml'"),
        ("tasks.box.degradation: size must be at least 1, got -1", "tasks.box.degradation.size in '{}it's a.yaml'"),
        ("tasks.box.noise: sigma_255 must be finite", "tasks.box.noise.sigma_255 in '{}it's a.yaml'"),
        ("ema: ramp must be positive", "ema.ramp in '{}b.yaml'"),
        ("model.network: there is too little of it", "model.network in '{}it's a.yaml'"),
        ("model: network and dropout do not fit", "model.network in '{}it's a.yaml'"),
    ],
)
def test_in_a_file(message, where, words, tmp_path):
    assert with_place(message, words) == f"{where.format(f'{tmp_path}/')}: {message.partition(': ')[2]}"


@pytest.mark.parametrize("word", ["--tasks.box.degradation.init_args.size=-1", "--tasks.box.degradation.size"])
def test_a_word_of_the_command_line_comes_before_files(word, words):
    message = "tasks.box.degradation: size must be at least 1, got -1"
    assert with_place(message, [*words, word, "-1"]).startswith("--tasks.box.degradation.size: size must")


@pytest.mark.parametrize("message", ["no entry here", "nothing.of.it: size is odd", "4 of 12 cells: no", "https://a.b"])
def test_what_names_no_entry_stays(message, words):
    assert with_place(message, words) == message


def test_what_stands_nowhere_is_an_option_of_the_command_line(words):
    assert place("model", "learning_rate", words) == "--model.learning_rate"
    assert place("model.init_args.network", "dropout", words).startswith("model.network.dropout in '")


def test_files_that_cannot_be_read_are_passed_over(tmp_path):
    assert (
        place("model", "seed", ["--config", str(tmp_path / "none.yaml"), "--config", str(tmp_path)]) == "--model.seed"
    )
