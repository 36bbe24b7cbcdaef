"""The short options of restore.py, and that each kernel makes a picture smaller by its factor."""

import re
from pathlib import Path

import pytest

from common.build import build, describe
from common.errors import UserError
from degradations.base import Degradation
from inference.catalogue import choose, degradations
from inference.degradation_options import KERNELS, degradation_options


def test_what_they_stand_for():
    assert degradation_options(None, {}) == ("identity", {})
    assert degradation_options("gaussian_blur", {"std": 2}) == ("gaussian_blur", {"std": 2})
    assert degradation_options(None, {}, mask=Path("m.png")) == ("given_mask", {"path": "m.png"})
    assert degradation_options("given_mask", {}, mask=Path("m.png")) == ("given_mask", {"path": "m.png"})
    assert degradation_options(None, {}, factor=2, kernel="average") == ("average_pool", {"factor": 2})
    assert degradation_options(None, {}, factor=4)[1]["factor"] == 4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 4])
def test_kernels(kernel, factor):
    """A measured picture of 9x12 is the small one of an image that is `factor` times as large."""
    name, options = degradation_options(None, {}, factor=factor, kernel=kernel)
    degradation = build(describe(choose(name, degradations(), "--degradation"), options), Degradation, where="--kernel")
    operator = degradation.bind({}, degradation.clean_shape((3, 9, 12)))
    assert (
        operator.input_shape == (3, 9 * factor, 12 * factor)
        and operator.output_shape == (3, 9, 12)
        and f"x{factor}" in operator.description
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "identity", "factor": 2}, "--degradation identity and --factor 2 are two"),
        ({"name": "grey", "mask": Path("m.png")}, "--degradation grey and --mask m.png are two"),
        ({"mask": Path("m.png"), "factor": 2}, "--mask m.png and --factor 2 are two"),
        ({"kernel": "bicubic"}, "give --factor F too"),
        ({"factor": 0}, "at least 2, got 0"),
        ({"factor": 2, "kernel": "lanczos"}, "did you mean 'lanczos"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        degradation_options(options.pop("name", None), {}, **options)
