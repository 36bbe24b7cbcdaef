"""What the parser says is put into one sentence: key, value, place and fix."""

import math

import pytest
from helpers import call, one_sentence, tiny_config, write_config

from training.plain_words import plain_words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.learning_rate", "fast"], "--model.learning_rate: must be a number, got fast"),
        (["--trainer.gradient_clip_val", "nan"], "--trainer.gradient_clip_val: must be a number, got nan"),
        (["--data.limit", "3.5"], "--data.limit: must be a whole number, got 3.5"),
        (["--model.network.groups", "x"], "--model.network.groups: must be a whole number, got x"),
        (["--model.prediction", "w"], "--model.prediction: must be one of epsilon, x0, v, edm, velocity, got w"),
        (["--model.network.chanels", "4"], "--model.network.chanels: there is no such option (did you mean 'channels'"),
        (
            ["--model.sampler", "diffusion.samplers.ddim.DDIMM"],
            "--model.sampler: there is no class 'diffusion.samplers.ddim.DDIMM' (did you mean 'DDIM'?)",
        ),
        (["--model", "lightning_modules.ddmp.DDPM"], "there is no module 'lightning_modules.ddmp'"),
        (["--model.sampler", "diffusion.schedules.Cosine"], "'diffusion.schedules.Cosine' is no Sampler"),
    ],
)
def test_on_the_command_line(options, words, tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=2))
    result = call("train.py", "fit", "--config", config, "--run", tmp_path / "run", *options)
    one_sentence(result, words)
    assert "Parser key" not in result.stderr and "<class" not in result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": "fast"}, "model.learning_rate in '{}': must be a number, got fast"),
        ({"learning_rte": 1}, "model.learning_rte in '{}': there is no such option (did you mean 'learning_rate'?)"),
        (
            {"sampler": {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": "q"}}},
            "model.sampler.eta in '{}': must be a number, got q",
        ),
        ({"learning_rate": math.nan}, "model.learning_rate in '{}' is NaN"),
    ],
)
def test_in_a_file(changes, words, tmp_path):
    config = tiny_config(max_steps=2)
    config["model"]["init_args"] |= changes
    path = write_config(tmp_path, config)
    one_sentence(call("train.py", "fit", "--config", path, "--run", tmp_path / "run"), words.format(path))


def test_what_has_no_known_form_stays():
    assert plain_words("something else", []) == "something else"
    assert plain_words('Parser key "x": out of the ordinary', []) == "--x: out of the ordinary"
