"""A level of noise that leaves nothing of a picture is refused by both programs that restore, in the same words."""

import pytest

from common.errors import UserError
from common.noise_level import refuse_loud
from evaluation.config import parse_config
from evaluation.plan import make_plan
from inference.command_line import make_parser, refuse_at_once

SENTENCE = "must be finite, at least 0 and at most 255, got 5000: it is in grey levels, of which a picture has 256"


def test_levels():
    for level in (0, 25, 255.0):
        refuse_loud(level, "sigma")
    for level in (-1, 255.1, float("inf"), float("nan")):
        with pytest.raises(UserError, match=r"^sigma must be finite, at least 0 and at most 255, got"):
            refuse_loud(level, "sigma")


def test_restore_says_it():
    with pytest.raises(UserError, match=f"^--sigma_255 {SENTENCE}$"):
        refuse_at_once(make_parser().parse_args(["in.png", "--output", "out", "--sigma_255", "5000"]))


@pytest.mark.parametrize("noise", [{"sigma_255": 5000}, {"sigma": 5000 / 127.5}, {"sigma_unit": 5000 / 255}])
def test_evaluate_says_it_whatever_the_unit(noise):
    raw = {
        "data": "datamodules.digits.Digits",
        "tasks": {"loud": {"degradation": "degradations.identity.Identity", "noise": noise}},
        "methods": {"degraded": "restoration.degraded.Degraded"},
    }
    with pytest.raises(UserError, match=f"^tasks.loud.noise: sigma_255 {SENTENCE}$"):
        make_plan(parse_config(raw, "here"))
    raw["tasks"]["loud"]["noise"] = {name: value / 5000 * 255 for name, value in noise.items()}
    make_plan(parse_config(raw, "here"))
