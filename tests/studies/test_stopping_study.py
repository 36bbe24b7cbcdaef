"""The study of stopping criteria: shipped files parse, a tiny one runs, resumes, and its tables add up."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.random_streams import RandomStreams
from studies.stopping_study import Runner, compared_with, main, read_image, read_study
from studies.stopping_tables import by_image, gaps, read_jobs

ROOT = Path(__file__).resolve().parents[2]
# others have commands of their own
STUDIES = sorted(p for p in (ROOT / "configs" / "studies").glob("*.yaml") if "noises:" in p.read_text())
TINY = """
title: tiny
images:
  one: {path: PICTURE, crop: 16}
  two: {path: PICTURE, shrink: 16}
noises:
  gaussian_25: {class_path: degradations.noise.GaussianNoise, init_args: {sigma_255: 25}}
fit:
  architecture:
    class_path: networks.untrained.skip.SkipArchitecture
    init_args: {preset: small, channels: [4, 4], inputs: 2}
  iterations: 40
seeds: [0]
criteria:
  oracle: restoration.stopping.oracle.Oracle
  es_wmv: {class_path: restoration.stopping.es_wmv.ESWMV, init_args: {window: 4, patience: 5}}
  multi_noise:
    class_path: restoration.stopping.multi_noise.MultiNoiseEarlyStopping
    init_args: {patience: 4, smooth: 2}
"""


@pytest.fixture
def study(tmp_path):
    pixels = (RandomStreams(0).uniform("picture", 0, 0, (40, 36)) * 255).byte().numpy()
    Image.fromarray(np.kron(pixels, np.ones((1, 1), np.uint8))).save(tmp_path / "picture.png")
    path = tmp_path / "study.yaml"
    path.write_text(TINY.replace("PICTURE", str(tmp_path / "picture.png")))
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_shipped_studies_parse(path):
    base = ROOT / "configs" / "studies" / "dip_stopping.yaml"
    found = read_study([base, path], [])
    assert found.criteria and found.noises and found.fit.iterations > 0
    for name, spec in found.images.items():
        if Path(ROOT / spec["path"]).exists():
            assert read_image(name, {**spec, "path": str(ROOT / spec["path"])}).shape[-1] in (64, 128)


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["stopping_study", *words])
    main()


def test_a_study_from_end_to_end(study, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out"
    words = ["--config", str(study), "--output", str(folder)]
    run(monkeypatch, *words, "--share", "0/2")
    run(monkeypatch, *words, "--share", "1/2")
    jobs = {p.name: p.stat().st_mtime_ns for p in (folder / "jobs").glob("*.json")}
    assert set(jobs) == {f"{i}-gaussian_25-0-{g}.json" for i in ("one", "two") for g in ("plain", "multi_noise")}
    run(monkeypatch, *words)
    assert jobs == {p.name: p.stat().st_mtime_ns for p in (folder / "jobs").glob("*.json")}  # nothing is done twice
    rows = gaps(read_jobs(folder))
    assert by_image(rows, "oracle") == pytest.approx({"one": 0.0, "two": 0.0}, abs=1e-6)
    assert min(r["gap"] for r in rows if r["criterion"] in ("oracle", "es_wmv")) >= -1e-6
    assert {r["criterion"] for r in rows} == {
        "oracle",
        "es_wmv",
        "es_wmv, raw answer",
        "multi_noise",
        "multi_noise_one_pass",
    }
    table = (folder / "table.md").read_text()
    assert "| oracle * | +0.00" in table and "nan, +nan" not in table
    assert "In brackets 95 % intervals over 2 pictures, each the mean of its fits: Student's t." in table
    assert json.loads((folder / "jobs" / "one-gaussian_25-0-plain.json").read_text())["iterations"] == 40


def test_the_table_compares_with_a_criterion_that_is_there():
    """Without es_wmv the column once said nan."""
    assert compared_with(["oracle", "one_level", "es_wmv"]) == "es_wmv"
    assert compared_with(["oracle", "one_level", "three_levels"]) == "one_level"
    assert compared_with(["oracle"]) == "oracle"


def test_criteria_that_keep_the_target_share_one_fit(study, tmp_path):
    groups = {j.group: j.criteria for j in Runner(read_study([study], []), tmp_path).jobs()}
    assert groups == {"plain": ("oracle", "es_wmv"), "multi_noise": ("multi_noise",)}


def test_mistakes(study, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no picture at"):
        read_image("x", {"path": "nowhere.png"})
    with pytest.raises(UserError, match="fewer than 64"):
        read_image("x", {"path": str(tmp_path / "picture.png"), "crop": 64})
    with pytest.raises(UserError, match="--share must be"):
        run(monkeypatch, "--config", str(study), "--output", str(tmp_path / "o"), "--share", "2/2")
    with pytest.raises(UserError, match="no finished fit"):
        run(monkeypatch, "--config", str(study), "--output", str(tmp_path / "empty"), "--table")
    with pytest.raises(UserError, match="wrong"):
        read_study([study], ["wrong=1"])
    levels = "criteria.multi_noise.init_args.levels=[2, 1, 0.5]"
    with pytest.raises(
        UserError, match=r"criteria\.multi_noise: 3 levels cannot be reached in 15 .*--set fit\.iterations"
    ):
        read_study([study], [levels, "fit.iterations=15"])


def test_pictures_are_opened_by_the_one_reader(tmp_path):
    """16 bits of grey are no white picture, and what is none is one sentence with the image's name."""
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    found = read_image("x", {"path": str(tmp_path / "deep.png")})
    assert np.abs((found[0, 0].numpy() + 1) * 127.5 - levels / 257).max() < 0.51
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"images\.x: '.*text\.png' cannot be read as a picture"):
        read_image("x", {"path": str(tmp_path / "text.png")})
