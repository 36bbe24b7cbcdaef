"""Metrics of sets that depend on the number of images: how they fall, where it is kept and shown."""

import csv

import torch

from evaluation.bias import read_bias, write_bias
from evaluation.config import parse_config
from evaluation.generation.measures import quality
from evaluation.run import Options, evaluate
from metrics.features import Features
from metrics.fid import FID, frechet_distance
from metrics.kid import KID
from tests.evaluation.toys import Corners


def features(n: int, seed: int, d: int = 4) -> Features:
    return Features(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def test_fid_of_equal_laws_falls_with_the_number_of_images():
    metric = FID(features=Corners())
    points = metric.by_images(features(800, 0), features(800, 1), paired=False)
    assert [n for n, _ in points] == [100, 200, 400, 800]
    values = [value for _, value in points]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]
    assert values[-1] == frechet_distance(features(800, 0).moments, features(800, 1).moments)


def test_of_pairs_the_truths_of_the_same_images_are_taken():
    """A set with itself: 0 for every number, which against the whole reference it would not be."""
    same, metric = features(80, 0), FID(features=Corners())
    assert all(value < 1e-12 for _, value in metric.by_images(same, same, paired=True))
    assert max(value for _, value in metric.by_images(same, same, paired=False)) > 0.01


def test_few_images_have_no_curve_and_what_has_no_bias_neither():
    metric = FID(features=Corners())
    assert metric.by_images(features(9, 0), features(9, 1), paired=True) == []
    assert [n for n, _ in metric.by_images(features(25, 0), features(25, 1), paired=True)] == [12, 25]
    assert KID(features=Corners()).by_images(features(80, 0), features(80, 1), paired=False) == []
    assert metric.wanted() == 10 * Corners().dimension and KID(features=Corners()).wanted() == 0
    both = {"fid": metric, "kid": KID(features=Corners())}
    assert list(quality(both, features(80, 0), features(80, 1)).by_images) == ["fid"]


def test_the_file(tmp_path):
    curves = {("t,u", "m", "fid", "abc", 40): [(20, 1.5), (40, 1.0)], ("", "m", "fid", "abc", 20): [(20, 2.0)]}
    write_bias(tmp_path, curves)
    assert read_bias(tmp_path) == curves
    with (tmp_path / "bias.csv").open("a") as file:
        file.write("torn,li")
    assert read_bias(tmp_path) == curves and read_bias(tmp_path / "none") == {}


def test_an_evaluation_keeps_it_and_marks_numbers_of_few_images(tmp_path):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 24,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.5}}},
        "methods": {"back": "tests.evaluation.toys.Back", "dither": "tests.evaluation.toys.Dither"},
        "features": "tests.evaluation.toys.Corners",
    }
    results = evaluate(parse_config(raw, "test"), Options(output=tmp_path))
    with (tmp_path / "bias.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["metric"], line["images"]) for line in lines] == [
        (method, "fid", n) for method in ("back", "dither") for n in ("12", "24")
    ]
    assert float(lines[1]["value"]) == results.table["denoise", "back"]["fid"].mean
    page = (tmp_path / "report.html").read_text()
    assert "FID by number of images: denoise" in page
    few = Corners().dimension * 10 > 24
    assert ("†" in page) == few == ("†" in (tmp_path / "table.md").read_text())
    assert not few or "of fewer than" in page
