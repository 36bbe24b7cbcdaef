"""What a training costs, as --prepare says it."""

import re

import pytest
from helpers import call, tiny_config, write_config

from training.cost import hours


def test_prepare_says_steps_images_and_core_hours(tmp_path):
    result = call("train.py", "fit", "--config", write_config(tmp_path, tiny_config()), "--prepare")
    assert result.returncode == 0, result.stderr[-2000:]
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("  cost "))
    assert "8 steps of 16 images, 128 in all" in line
    each = re.search(r"; (\S+) ms of a core an image here, in float32: about 1 core minutes", line)
    assert each and 0.01 < float(each[1]) < 1000


def test_parts_of_a_step_count_and_steps_may_be_open(tmp_path):
    config = write_config(tmp_path, tiny_config(accumulate_grad_batches=3))
    assert "8 steps of 48 images, 384 in all" in call("train.py", "fit", "--config", config, "--prepare").stdout
    open_end = call("train.py", "fit", "--config", config, "--trainer.max_steps=-1", "--prepare")
    assert "trainer.max_steps does not say how many" in open_end.stdout


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "1 core minutes"), (3000, "50 core minutes"), (7200, "2.0 core hours"), (7.2e6, "2,000 core hours")],
)
def test_hours_are_in_a_unit_to_plan_with(seconds, words):
    assert hours(seconds) == words
