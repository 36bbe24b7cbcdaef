import io

import pytest
from PIL import Image

from evaluation.config import parse_config
from evaluation.plan import make_plan
from evaluation.report.sheets import MAX_BYTES, compose
from evaluation.run import Options, evaluate

TOYS = "tests.evaluation.toys."


def test_columns_are_as_wide_as_picture_and_label():
    grid = [[Image.new("RGB", (96, 96), "red"), Image.new("RGB", (20, 20), "blue")]]
    sheet = compose(grid, ["a", "a long name of a method"])
    assert sheet.width > 96 + 100 and sheet.height > 96
    assert sheet.getpixel((20, 60)) == (255, 0, 0)


@pytest.mark.parametrize("colour", [False, True])
def test_measurements_of_another_size(tmp_path, colour):
    """A task whose measurement is smaller than the image: shown at the image's size, every image enlarged, all under
    the limit.
    """
    task = {
        "degradation": {"class_path": "degradations.average_pool.AveragePool", "init_args": {"factor": 2}},
        "noise": {"sigma": 0.0},
    }
    raw = {"data": "datamodules.digits.Digits", "limit": 3, "tasks": {"pool": task}, "methods": {"back": TOYS + "Back"}}
    if colour:
        raw["data"] = "tests.evaluation.toys.Colours"
        raw["tasks"]["grey"] = {"degradation": "degradations.grey.Grey"}
    evaluate(parse_config(raw, "test"), Options(output=tmp_path))
    for path in (tmp_path / "images").iterdir():
        content = path.read_bytes()
        assert len(content) < MAX_BYTES
        sheet = Image.open(io.BytesIO(content))
        assert sheet.width >= 3 * 96 and sheet.height >= 3 * 72
    assert make_plan(parse_config(raw, "test")).images.shape(0)[0] == (3 if colour else 1)


def test_the_samples_of_an_image_have_a_sheet(tmp_path):
    """A column for each method, a row for each sample; none where every method has one sample."""
    task = {"degradation": {"class_path": "degradations.box_mask.BoxMask", "init_args": {"size": 4}}}
    draws = {"class_path": TOYS + "Dither", "num_samples": 3}
    raw = {"data": "datamodules.digits.Digits", "limit": 2, "tasks": {"box": task}, "methods": {"dither": draws}}
    evaluate(parse_config(raw, "test"), Options(output=tmp_path / "many"))
    sheets = sorted((tmp_path / "many" / "images").glob("box_samples_*.png"))
    assert len(sheets) == 2
    sheet = Image.open(sheets[0])
    assert sheet.height >= 3 * 96 and sheet.width >= 2 * 96
    assert "samples of" in (tmp_path / "many" / "report.html").read_text(encoding="utf-8")
    raw["methods"]["dither"]["num_samples"] = 1
    evaluate(parse_config(raw, "test"), Options(output=tmp_path / "one"))
    assert len(list((tmp_path / "one" / "images").iterdir())) == 1
