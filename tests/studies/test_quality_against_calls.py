"""Quality against calls in one picture: from the tables of a folder, names apart, one line for numbers of steps."""

import csv
import math
import sys
from itertools import pairwise

import pytest
import yaml
from PIL import Image

from common.errors import UserError
from studies.quality_against_calls import aside, axis, column_of, lines, main, read_points, spread

METHODS = {"mean": 0, "ddrm": 20, "dps_10": 10, "dps_100": 100, "red_diff": 1000}
SECOND = {"pairwise_rmse": {"class_path": "metrics.pairwise_rmse.PairwiseRMSE"}}


@pytest.fixture
def folder(tmp_path):
    """Rows of two tasks; the second has a method of 3 dB, far below the others."""
    path = tmp_path / "results"
    path.mkdir()
    entries = {
        name: {"class_path": f"restoration.{name.partition('_1')[0]}.X", "init_args": {"steps": nfe, "clip": True}}
        for name, nfe in METHODS.items()
    }
    config = {"metrics": {"psnr": {"class_path": "metrics.psnr.PSNR"}, **SECOND}, "methods": entries}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    with (path / "table.csv").open("w", newline="") as table, (path / "costs.csv").open("w", newline="") as costs:
        values, prices = csv.writer(table), csv.writer(costs)
        values.writerow(["task", "method", "metric", "mean", "ci_low", "ci_high", "n"])
        prices.writerow(["task", "method", "nfe", "backwards", "seconds", "chains", "peak_mb", "memory"])
        for task in ("box", "random"):
            for number, (name, nfe) in enumerate(METHODS.items()):
                mean = 3.0 if task == "random" and name == "mean" else 20.0 + number
                values.writerow([task, name, "psnr", mean, mean - 1, mean + 1 if name != "ddrm" else "", 16])
                values.writerow([task, name, "pairwise_rmse", "", "", "", 0])
                prices.writerow([task, name, nfe, nfe if "dps" in name else 0, 0.1, 64, "", ""])
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["quality_against_calls.py", *map(str, words)])
    main()


def test_what_the_tables_say(folder):
    column = column_of(yaml.safe_load((folder / "config.yaml").read_text()), "psnr")
    points = read_points(folder, column)
    assert list(points) == ["box", "random"] and (column.label, column.unit) == ("PSNR", "dB")
    found = {p.method: p for p in points["box"]}
    assert {n: p.calls for n, p in found.items()} == METHODS
    assert [n for n, p in found.items() if p.backwards] == ["dps_10", "dps_100"]
    assert (found["dps_10"].value.mean, found["dps_10"].value.low, found["dps_10"].value.high) == (22, 21, 23)
    assert math.isnan(found["ddrm"].value.high)
    low, high = axis(points["random"], column.best)
    assert 10 < low < 20 and high > 25  # 3 dB does not press the others together
    assert axis(points["random"], -1)[0] < 3  # where least is best it is the best


def test_a_metric_in_features_needs_no_network_here():
    """Neither the one that all metrics share, nor one of its own, nor the real images that it compares with; a column
    may have another name than its metric.
    """
    own = {"class_path": "checkpoints.features.ClassifierFeatures", "init_args": {"path": "elsewhere.safetensors"}}
    config = {
        "features": own,
        "metrics": {
            "psnr": {"class_path": "metrics.psnr.PSNR"},
            "fid": {"class_path": "metrics.fid.FID", "init_args": {}},
            "cosine": {"class_path": "metrics.pairwise_cosine.PairwiseCosine", "init_args": {"features": own}},
            "precision": {"class_path": "metrics.precision_of_samples.PrecisionOfSamples"},
        },
    }
    assert (column_of(config, "fid").label, column_of(config, "fid").best) == ("FID", -1)
    assert column_of(config, "cosine").name == "cosine" and column_of(config, "density").name == "density"
    with pytest.raises(UserError, match=r"--metric fidd: .* \(did you mean 'fid'\?\); it has psnr, fid, cosine, prec"):
        column_of(config, "fidd")


def test_methods_that_differ_in_steps_alone_are_one_line(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert lines(config["methods"]) == [["dps_10", "dps_100"]]
    config["methods"]["dps_10"]["init_args"]["clip"] = False
    assert lines(config["methods"]) == []


@pytest.mark.parametrize("heights", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.95], [0.2, 0.9, 0.5], [0.5]])
def test_names_stand_apart_in_the_order_of_the_points(heights):
    found = spread(heights, 0.1, 0.0, 1.0)
    assert all(0 <= h <= 1 for h in found)
    ordered = sorted(found)
    assert all(b - a > 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert sorted(range(len(found)), key=lambda k: found[k]) == sorted(range(len(found)), key=lambda k: heights[k])
    if heights == [0.2, 0.9, 0.5]:
        assert found == heights
    crowded = spread([0.5] * 21, 0.1, 0.0, 1.0)
    assert sorted(crowded) == pytest.approx([k / 20 for k in range(21)])


def test_equal_numbers_of_calls_stand_beside_each_other():
    found = aside([100, 0, 101, 20, 100])
    assert found[1] == found[3] == 1 and found[0] < found[2] == 1 < found[4] < 1.2


def test_the_command_draws_a_picture(folder, monkeypatch, tmp_path):
    run(monkeypatch, folder, "--output", tmp_path / "new" / "all.png")
    run(monkeypatch, folder, "--output", tmp_path / "one.png", "--task", "box")
    with Image.open(tmp_path / "new" / "all.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width > 1.5 * one.width and one.convert("L").getextrema() != (255, 255)
    assert (tmp_path / "new" / "all.png").stat().st_size < 300_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "a.jpg"], r"--output a.jpg: it is a picture, give a name that ends in .png"),
        (["--output", "a.png", "--metric", "psn"], r"--metric psn: .* \(did you mean 'psnr'\?\)"),
        (["--output", "a.png", "--metric", "pairwise_rmse"], r"--metric pairwise_rmse: it has no number"),
        (["--output", "a.png", "--task", "bix"], r"--task bix: .* \(did you mean 'box'\?\)"),
    ],
)
def test_mistakes_are_one_sentence(folder, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        run(monkeypatch, folder, *words)
    assert "\n" not in str(error.value)
    (folder / "costs.csv").unlink()
    with pytest.raises(UserError, match=r"there is no costs.csv in"):
        run(monkeypatch, folder, "--output", "a.png")
