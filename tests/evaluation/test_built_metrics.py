"""Metrics by class path: a new one of each kind is a column at once; a missing one is a reason in one line."""

import csv
import json
import re

import pytest
import torch

from common.errors import UserError
from evaluation.built_metrics import build_metrics
from evaluation.config import parse_config
from evaluation.run import Options, dry_run, evaluate

TOYS = "tests.evaluation.toys."
OURS = "tests.evaluation.toy_metrics."
CORNERS = {"class_path": TOYS + "Corners"}


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 7,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {"back": TOYS + "Back", "dither": {"class_path": TOYS + "Dither", "num_samples": 2}},
        "metrics": {"ssim": None},
    }
    return parse_config(raw | changes, "test")


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table_of(folder):
    return {(r["method"], r["metric"]): r for r in rows_of(folder / "table.csv")}


def words_of(folder):
    """The page without tags."""
    page = re.sub(r"<style>.*?</style>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def build(specs, *, features=None, shapes=((1, 8, 8),)):
    config = {n: {"class_path": s, "init_args": {}} if isinstance(s, str) else s for n, s in specs.items()}
    return build_metrics(config, features=features, shapes=shapes, device=torch.device("cpu"))


def test_a_new_metric_of_each_kind_is_a_column(tmp_path, capsys):
    metrics = {
        "ssim": None,
        "bright": {"class_path": OURS + "Brightness", "init_args": {"gain": 2.0}},
        "residual": OURS + "Residual",
        "shift": {"class_path": OURS + "MeanShift", "init_args": {"features": CORNERS}},
    }
    evaluate(config(metrics=metrics), Options(output=tmp_path))
    assert list(rows_of(tmp_path / "rows.csv")[0])[9:] == ["psnr", "consistency", "left", "right", "fingerprint"]
    assert "residual" in rows_of(tmp_path / "sets.csv")[0]
    assert "shift_ci_low" in rows_of(tmp_path / "distribution.csv")[0]
    table, rows = table_of(tmp_path), rows_of(tmp_path / "rows.csv")
    back = [float(r["left"]) + float(r["right"]) for r in rows if r["method"] == "back"]
    assert float(table["back", "bright"]["mean"]) == pytest.approx(sum(back) / 7)
    assert ("back", "residual") not in table and table["dither", "residual"]["n"] == "7"
    # Dither adds noise of deviation 0.2 to what was measured.
    assert float(table["dither", "residual"]["mean"]) == pytest.approx(0.2, rel=0.3)
    assert ("back", "fid") not in table, "FID and KID come with a network for all"
    printed, words = capsys.readouterr().out, words_of(tmp_path)
    for label in ("brightness", "residual of samples", "mean shift"):
        assert label in printed and label in words
    assert "mean shift of sample 0 against the true images" in printed
    assert "mean shift: the restored images" in words and "Mean shift is simple." in words
    assert "&lt;grey&gt;" in (tmp_path / "report.html").read_text()


def test_a_metric_without_its_weights_is_a_line_and_comes_later(tmp_path, capsys, monkeypatch):
    weights = tmp_path / "weights.txt"
    monkeypatch.setenv("TOY_WEIGHTS", str(weights))
    asked = config(metrics={"ssim": None, "weighted": OURS + "Weighted"})
    out, line = Options(output=tmp_path / "out"), "weighted is missing: its weights are not there"
    evaluate(asked, out)
    printed = capsys.readouterr()
    assert printed.err.count(line) == 1 and printed.out.count(line) == 1 and line in words_of(tmp_path / "out")
    assert {r["weighted"] for r in rows_of(tmp_path / "out/rows.csv")} == {""}
    assert ("back", "weighted") not in table_of(tmp_path / "out")
    evaluate(asked, out)  # still missing: nothing stops
    weights.write_text("2.0")
    with pytest.raises(UserError, match=r"'weighted'.*--metrics_only"):
        evaluate(asked, out)
    evaluate(asked, Options(output=tmp_path / "out", metrics_only=True))
    first = float(table_of(tmp_path / "out")["back", "weighted"]["mean"])
    evaluate(asked, out)
    weights.write_text("3.0")  # other weights, other numbers
    with pytest.raises(UserError, match=r"'weighted'.*other options or weights"):
        evaluate(asked, out)
    evaluate(asked, Options(output=tmp_path / "out", metrics_only=True))
    assert float(table_of(tmp_path / "out")["back", "weighted"]["mean"]) == pytest.approx(1.5 * first)
    capsys.readouterr()
    dry_run(asked, out)
    assert line not in capsys.readouterr().err
    weights.unlink()
    dry_run(asked, out)
    assert line in capsys.readouterr().err
    evaluate(asked, out)  # rows.csv has numbers whose weights nobody can look at now: they are not shown
    assert ("back", "weighted") not in table_of(tmp_path / "out")


def test_inception_without_its_file_is_a_line(tmp_path, capsys, monkeypatch):
    for name in ("WEIGHTS_DIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    evaluate(
        config(features={"class_path": "checkpoints.features.InceptionFeatures"}), Options(output=tmp_path / "out")
    )
    printed = capsys.readouterr().out
    for label in ("FID", "KID"):
        assert printed.count(f"{label} is missing: the Inception network is not there") == 1
    assert ("back", "fid") not in table_of(tmp_path / "out") and not (tmp_path / "out/distribution.csv").exists()


def test_a_network_of_its_own_that_is_not_there_is_a_reason_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    inception = {"class_path": "checkpoints.features.InceptionFeatures", "init_args": {"path": str(tmp_path / "no.pt")}}
    kid = {"class_path": "metrics.kid.KID", "init_args": {"features": inception}}
    built = build({"fid": "metrics.fid.FID", "inception_kid": kid}, features=CORNERS)
    assert list(built.sets) == ["fid"] and built.absent == ["inception_kid"]
    assert built.missing["inception_kid"].startswith("KID is missing: the Inception network is not there")


def test_a_column_without_a_number_in_any_cell_is_a_sentence_in_its_place(tmp_path, capsys):
    """SSIM of 8x8 images: not a column of dashes on the terminal, in the page or in table.csv."""
    results = evaluate(config(metrics={}), Options(output=tmp_path / "out"))
    assert "ssim" not in [c.name for c in results.columns]
    printed = capsys.readouterr().out
    assert printed.count("SSIM") == 1 and "SSIM is missing: its window of 11 pixels" in printed
    words = words_of(tmp_path / "out")
    assert words.count("SSIM") == 1 + words.count("metrics.ssim.SSIM")
    assert ("back", "ssim") not in table_of(tmp_path / "out") and ("back", "psnr") in table_of(tmp_path / "out")


def test_sizes_that_a_metric_cannot_measure():
    built = build({"ssim": "metrics.ssim.SSIM"}, shapes=[(1, 8, 8), (1, 16, 16)])
    assert built.not_at == {("ssim", (1, 8, 8))} and "for some of the images" in built.missing["ssim"]
    small = build({"ssim": "metrics.ssim.SSIM"})
    assert small.missing["ssim"] == "SSIM is missing: its window of 11 pixels does not fit into images of 8x8"
    assert small.row_columns == ("ssim",), "the column stays, and is empty"


def test_metrics_share_one_network():
    shift = {"class_path": OURS + "MeanShift", "init_args": {"features": CORNERS}}
    built = build({"fid": "metrics.fid.FID", "kid": "metrics.kid.KID", "shift": shift}, features=CORNERS)
    assert built.sets["fid"].features is built.sets["kid"].features
    ((network, metrics),) = built.by_network()
    assert network.name == "corners" and list(metrics) == ["fid", "kid", "shift"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"fid": "metrics.fid.FID"}, r"metrics\.fid compares features: give 'features'"),
        ({"a": "metrics.mse.MSE", "b": "metrics.mse.MSE"}, r"table\.csv would be called 'rmse_pooled'"),
        ({"seed": "metrics.psnr.PSNR"}, r"rows\.csv would be called 'seed'"),
        ({"a": "metrics.calibration.Calibration", "b": "metrics.calibration.Calibration"}, r"sets\.csv .* 'variance'"),
        ({"a": "metrics.base.MetricBase"}, r"not a usable MetricBase"),
        ({"a": "metrics.psn.PSNR"}, r"did you mean 'metrics\.psnr'"),
        ({"a": {"class_path": "metrics.kid.KID", "init_args": {"block": 3}}}, r"did you mean 'blocks'"),
        ({"a": {"class_path": "metrics.kid.KID", "init_args": {"blocks": 1}}}, r"blocks .* at least 2"),
    ],
)
def test_mistakes_are_one_sentence(specs, message):
    with pytest.raises(UserError, match=message):
        build(specs, features=None if "fid" in specs else CORNERS)


def test_the_caches_of_changed_metrics_are_forgotten(tmp_path):
    def asked(gain):
        shift = {"class_path": "metrics.kid.KID", "init_args": {"features": CORNERS, "blocks": gain}}
        return config(limit=20, metrics={"ssim": None, "shift": shift})  # fewer have no interval

    evaluate(asked(2), Options(output=tmp_path))
    before = table_of(tmp_path)["back", "shift"]
    evaluate(asked(3), Options(output=tmp_path))
    after = table_of(tmp_path)["back", "shift"]
    assert after["mean"] == before["mean"] and after["ci_high"] != before["ci_high"]
    assert set(json.loads((tmp_path / "metrics.json").read_text())) > {"psnr", "shift", "calibration"}


def test_a_folder_of_before_has_no_fingerprints_and_opens(tmp_path):
    evaluate(config(), Options(output=tmp_path))
    before = (tmp_path / "table.csv").read_text()
    (tmp_path / "metrics.json").unlink()
    evaluate(config(), Options(output=tmp_path))
    assert (tmp_path / "table.csv").read_text() == before
