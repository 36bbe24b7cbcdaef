"""The short options of restore.py, and that each kernel makes a picture smaller by its factor."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.build import build, describe
from common.errors import UserError
from common.picture_files import read_picture
from degradations.base import Degradation
from degradations.mask import Mask
from inference.catalogue import choose, degradations
from inference.degradation_options import KERNELS, degradation_options, paths_in, user_degradation
from inference.restore_one import Request, restore_one


def test_what_they_stand_for():
    assert degradation_options(None, {}) == ("identity", {})
    assert degradation_options("gaussian_blur", {"std": 2}) == ("gaussian_blur", {"std": 2})
    assert degradation_options(None, {}, mask=Path("m.png")) == ("given_mask", {"path": "m.png"})
    assert degradation_options("given_mask", {}, mask=Path("m.png")) == ("given_mask", {"path": "m.png"})
    assert degradation_options("reflecting_blur", {"std": 2}, mask=Path("m.png")) == (
        "composition",
        {"parts": [{"reflecting_blur": {"std": 2}}, {"given_mask": {"path": "m.png"}}]},
    )
    assert degradation_options(None, {}, factor=2, kernel="average") == ("average_pool", {"factor": 2})
    assert degradation_options(None, {}, factor=4)[1]["factor"] == 4
    assert degradation_options("identity", {}, factor=2, kernel="bicubic") == ("bicubic", {"factor": 2})


def test_blur_and_factor_and_mask_follow_one_another(tmp_path):
    """In this order; a composition grows; a file is the blur by the kernel in it."""
    kernel = tmp_path / "kernel.txt"
    kernel.write_text("1 2 1\n2 4 2\n")
    name, options = degradation_options(str(kernel), {}, factor=2, kernel="average", mask=Path("m.png"))
    blur, smaller, holes = options["parts"]
    assert name == "composition" and blur == {"kernel_blur": {"path": str(kernel)}}
    assert smaller == {"average_pool": {"factor": 2}} and holes == {"given_mask": {"path": "m.png"}}
    blurred = user_degradation(*degradation_options(str(kernel), {"boundary": "circular"}))
    assert "kernel.txt" in blurred.bind({}, (3, 8, 8)).description
    small = user_degradation(*degradation_options("reflecting_blur", {"std": 1.0}, factor=2))
    assert small.clean_shape((1, 8, 8)) == (1, 16, 16) and small.bind({}, (1, 16, 16)).output_shape == (1, 8, 8)


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
        ({"name": "bicubic", "factor": 2}, "--degradation bicubic and --factor 2 both make it smaller"),
        ({"kernel": "bicubic"}, "give --factor F too"),
        ({"factor": 0}, "at least 2, got 0"),
        ({"factor": 2, "kernel": "lanczos"}, "did you mean 'lanczos"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        degradation_options(options.pop("name", None), {}, **options)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def holes(path: Path, side: int = 16) -> Path:
    pixels = np.full((side, side), 255)
    pixels[4:7, 4:7] = 0
    return save(path, pixels)


def test_a_mask_after_another_degradation(tmp_path):
    """Parts are named as --degradation names them, or by class path; two masks are one."""
    mask = holes(tmp_path / "mask.png")
    blurred = user_degradation(*degradation_options("reflecting_blur", {"std": 1.5}, mask=mask))
    operator = blurred.bind({}, (3, 16, 16))
    assert "Gaussian blur" in operator.description and operator.mask is not None and not operator.keeps_pixels
    small = user_degradation(*degradation_options(None, {}, factor=2, mask=mask))
    assert small.clean_shape((1, 16, 16)) == (1, 32, 32) and small.bind({}, (1, 32, 32)).mask.shape[2:] == (16, 16)
    path = {"class_path": "degradations.given_mask.GivenMask", "init_args": {"path": str(mask)}}
    both = user_degradation("composition", {"parts": [{"given_mask": {"path": str(mask)}}, path]})
    assert isinstance(both.bind({}, (1, 16, 16)), Mask)
    assert paths_in({"parts": [{"given_mask": {"path": "a"}}, path], "std": 1}) == ["a", str(mask)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"random_mask": {"removed": 0.3}}], "'random_mask' does not exist"),
        ([{"class_path": "degradations.random_mask.RandomMask", "init_args": {"removed": 0.3}}], "nobody can draw"),
        ([{"reflecting_blurr": {"std": 1}}], "did you mean 'reflecting_blur'"),
        ([], "parts must name at least one"),
    ],
)
def test_parts_that_nobody_knows(parts, message):
    with pytest.raises(UserError, match=re.escape(message)):
        user_degradation("composition", {"parts": parts})


@pytest.mark.parametrize("method", ["pseudo_inverse", "total_variation"])
def test_a_blurred_picture_with_holes(tmp_path, method):
    """The blur is undone as well: a mask alone would give the known pixels back as they are."""
    x = np.zeros((16, 16))
    x[3:13, 8:13] = 255
    operator = user_degradation("reflecting_blur", {"std": 1.0}).bind({}, (1, 16, 16))
    truth = read_picture(save(tmp_path / "truth.png", x)).image
    y = 127.5 * (operator(truth[None])[0, 0].numpy() + 1)
    picture = save(tmp_path / "blurred.png", y.round())
    name, options = degradation_options("reflecting_blur", {"std": 1.0}, mask=holes(tmp_path / "mask.png"))
    request = Request(
        picture=picture,
        output=tmp_path / "out",
        method=method,
        degradation=name,
        prior=tmp_path,
        degradation_options=options,
        method_options={"iterations": 60} if method == "total_variation" else {},
        sigma_255=1.0,
        truth=tmp_path / "truth.png",
    )
    lines = restore_one(request)
    restored = read_picture(tmp_path / "out" / "restored.png").image
    before = (read_picture(picture).image - truth).square().mean()
    assert (restored - truth).square().mean() < 0.5 * before
    assert not any(line.startswith("given") for line in lines)  # what was given shows no pixel of the truth
    with pytest.raises(UserError, match="would be written over"):
        restored_mask = holes(tmp_path / "out" / "restored.png")
        _, own = degradation_options("reflecting_blur", {"std": 1.0}, mask=restored_mask)
        restore_one(Request(**{**vars(request), "degradation_options": own}))
