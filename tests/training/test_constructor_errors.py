"""A constructor knows its argument; the sentence names the key of the configuration and where it stands."""

import pytest
from helpers import call, one_sentence, tiny_config, write_config

from common.errors import UserError
from training.constructor_errors import placed


def fit(config, run, *options):
    return call("train.py", "fit", "--config", config, "--run", run, *options)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--data.batch_size", "-1", "--data.batch_size: batch_size must be at least 1, got -1"),
        ("--model.network.init_args.dropout", "7", "--model.network.dropout: dropout of the U-Net must be in [0, 1)"),
        ("--model.sampler.init_args.eta", "5", "--model.sampler.eta: eta must lie in [0, 1], got 5"),
        ("--ema.half_life_images", "-1", "--ema.half_life_images: "),
        ("--samples.every", "0", "--samples.every: every must be at least 1, got 0"),
        ("--trainer.strategy", "dpd", "invalid strategy name"),
    ],
)
def test_on_the_command_line(option, value, words, tmp_path):
    one_sentence(fit(write_config(tmp_path, tiny_config(max_steps=1)), tmp_path / "run", option, value), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("entry", "options", "words"),
    [
        ("data", {"batch_size": -3}, "data.batch_size in '{}': batch_size must be at least 1, got -3"),
        ("network", {"dropout": 7}, "model.network.dropout in '{}': dropout of the U-Net"),
        ("model", {"warmup_steps": -2}, "model.warmup_steps in '{}': "),
        ("samples", {"count": -3}, "samples.count in '{}': count must be at least 0, got -3"),
    ],
)
def test_in_a_file(entry, options, words, tmp_path):
    config = tiny_config(max_steps=1)
    model = config["model"]["init_args"]
    {
        "data": config["data"]["init_args"],
        "network": model["network"]["init_args"],
        "model": model,
        "samples": config["samples"],
    }[entry].update(options)
    path = write_config(tmp_path, config)
    one_sentence(fit(path, tmp_path / "run"), words.format(path))


class Bad:
    def __init__(self, *, size: int) -> None:
        if size < 1:
            raise UserError(f"size must be at least 1, got {size}")


def test_the_outermost_constructor_that_the_configuration_names_counts():
    class Holder:
        def __init__(self) -> None:
            Bad(size=0)

    path = f"{Bad.__module__}.{Bad.__qualname__}"
    with pytest.raises(UserError) as caught:
        Holder()
    options = {"data": {"class_path": "x.Y", "init_args": {"parts": [{"class_path": path, "init_args": {"size": 0}}]}}}
    words = ["--data.parts.size=0"]
    found = placed(caught.value, options, {}, words)
    assert str(found) == "--data.parts.size: size must be at least 1, got 0"
    assert str(placed(caught.value, options, {"samples": Holder}, words)).startswith("samples: size")
    assert str(placed(caught.value, {}, {}, words)) == "size must be at least 1, got 0"


def test_a_bug_stays_what_it_is():
    bug = ValueError("shapes do not match")
    assert placed(bug, {}, {}, []) is bug
