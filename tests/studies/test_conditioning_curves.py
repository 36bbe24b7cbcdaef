"""Curves of a study: the mean over seeds at each step, PSNR from the error, sentences for what is not there."""

import csv
import math
import sys

import pytest
from PIL import Image

from common.errors import UserError
from studies.conditioning_curves import curve, main, psnr, read_rows

NAMES = ["variant", "seed", "step", "seconds", "train_loss", "x0_loss_0.5", "x0_loss_2", "fid", "seconds_in_all"]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    with (path / "runs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(NAMES)
        for seed in (0, 1):
            for step in (500, 250):
                rows.writerow(["plain", seed, step, step / 10, 0.5, 0.04, "", 4 + 2 * seed, step / 10 + 10 * seed])
        rows.writerow(["noisy", 0, 250, 25, 0.4, 0.4, 0.1, 3.0, 25])
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["conditioning_curves.py", *map(str, words)])
    main()


def test_mean_and_ends_over_seeds_in_the_order_of_steps(folder):
    rows = read_rows(folder)
    assert curve(rows, "plain", "step", lambda r: float(r["fid"])) == [(250, 5.0, 4.0, 6.0), (500, 5.0, 4.0, 6.0)]
    assert [p[0] for p in curve(rows, "plain", "seconds_in_all", lambda r: float(r["fid"]))] == [30.0, 55.0]
    # a shortened chain has no error at high levels: no points, no zeros
    assert curve(rows, "plain", "step", lambda r: float(r["x0_loss_2"]) if r["x0_loss_2"] else None) == []


def test_psnr_of_images_in_minus_one_to_one():
    assert math.isclose(psnr(4.0), 0.0) and math.isclose(psnr(0.04), 20.0)


def test_the_picture(folder, tmp_path, monkeypatch):
    run(monkeypatch, folder, "--output", tmp_path / "curves.png", "--sigma", "2")
    with Image.open(tmp_path / "curves.png") as both:
        assert both.size == (1300, 700)
    run(monkeypatch, folder, "--output", tmp_path / "one.png", "--variant", "noisy")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "curves.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "curves.pdf"], r"give a name that ends in \.png"),
        (["--output", "c.png", "--variant", "plian"], "plian: there is no such one.*there are plain, noisy"),
        (["--output", "c.png", "--sigma", "3"], r"measured no such level; it has 0\.5, 2"),
    ],
)
def test_wrong_words(folder, monkeypatch, words, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, folder, *words)


def test_no_study_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"there is no runs\.csv"):
        run(monkeypatch, tmp_path, "--output", "c.png")
    (tmp_path / "runs.csv").write_text(",".join(NAMES) + "\n")
    with pytest.raises(UserError, match="has no rows"):
        run(monkeypatch, tmp_path, "--output", "c.png")
