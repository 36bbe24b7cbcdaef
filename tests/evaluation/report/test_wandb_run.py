"""One folder of results is one run of W&B, read back by W&B's own reader."""

import json
from pathlib import Path

import pytest
from wandb_reader import contents, records

from evaluation.config import parse_config
from evaluation.report.wandb_run import runs_of
from evaluation.run import Options, evaluate

TOYS = "tests.evaluation.toys."


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 3,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {"back": TOYS + "Back", "dither": {"class_path": TOYS + "Dither", "num_samples": 2}},
        "wandb": {"mode": "offline", "project": "a_test", "group": "g"},
    }
    return parse_config(raw | changes, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Evaluated, then again with one more image."""
    found = tmp_path_factory.mktemp("logged")
    run = found / "runs" / "mine"
    (run / "checkpoints").mkdir(parents=True)
    (run / "wandb_id").write_text("abcd1234\n")
    priors = {"mine": str(run / "checkpoints" / "last.ckpt")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(found / "cache"))
        patch.setenv("WANDB_DATA_DIR", str(found / "data"))
        for limit in (2, 3):
            evaluate(config(limit=limit, priors=priors), Options(output=found))
    return found


def test_a_second_call_goes_on_in_the_same_run(folder):
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    identity = (folder / "wandb_id").read_text().strip()
    assert len(files) == 2 and all(identity in file.name for file in files)


def test_what_the_run_holds(folder):
    newest = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))[-1]
    found = records(newest)
    assert found, "W&B's reader shows no records"
    summary = {name for r in found if r["type"] == "summary" for name in r["summary"].get("update", {})}
    assert {"denoise/back/psnr", "denoise/dither/psnr"} <= summary
    kept = {
        r["artifact"]["type"] + "/" + r["artifact"]["name"].rpartition("-")[2]: contents(r)
        for r in found
        if r["type"] == "artifact"
    }
    identity = (folder / "wandb_id").read_text().strip()
    assert {"report.html", "table.md", "table.tex", "rows.csv"} <= set(kept[f"evaluation/{identity}"])
    files = kept["run_table/per_image"]
    table = json.loads(Path(files["per_image.table.json"]).read_text())
    place = {name: k for k, name in enumerate(table["columns"])}
    assert {"task", "image", "method", "truth", "measurement", "restored", "psnr"} <= set(place)
    assert len(table["data"]) == 3 * 2
    assert {row[place["method"]] for row in table["data"]} == {"back", "dither"}
    for row in table["data"]:
        for name in ("truth", "measurement", "restored"):
            assert row[place[name]]["path"] in files and row[place[name]]["width"] == 8
        assert 5 < row[place["psnr"]] < 60
    (begun,) = (r["run"]["config"]["update"] for r in found if r["type"] == "run")
    assert begun["priors_trained_in"] == {"mine": "abcd1234"}
    rows = {name for r in found if r["type"] == "history" for name in r["history"]["item"]}
    assert "images/denoise.path" in rows
    means = json.loads(Path(kept["run_table/restoration"]["restoration.table.json"]).read_text())
    assert [row[:2] for row in means["data"]] == [["denoise", "back"], ["denoise", "dither"]]


def test_its_charts(folder):
    found = records(sorted((folder / "wandb").glob("offline-run-*/*.wandb"))[-1])
    charts = {
        name.removeprefix("_wandb.visualize."): chart["panel_config"]
        for r in found
        if r["type"] == "config"
        for name, chart in r["config"]["update"].items()
        if name.startswith("_wandb.visualize.")
    }
    kinds = {name: (chart["panelDefId"], chart["fieldSettings"]) for name, chart in charts.items()}
    assert kinds == {
        "plots/denoise": ("wandb/bar/v0", {"label": "method", "value": "psnr"}),
        "quality_over_calls": ("wandb/scatter/v0", {"x": "nfe", "y": "psnr"}),
    }
    files = {name: place for r in found if r["type"] == "artifact" for name, place in contents(r).items()}
    table = json.loads(Path(files["quality_over_calls_table.table.json"]).read_text())
    assert table["columns"] == ["task", "method", "nfe", "psnr"]
    assert [row[:3] for row in table["data"]] == [["denoise", "back", 0], ["denoise", "dither", 2]]


def test_the_run_that_trained_a_prior_is_named(tmp_path):
    run = tmp_path / "runs" / "mine"
    (run / "checkpoints").mkdir(parents=True)
    (run / "wandb_id").write_text("abcd1234\n")
    paths = {"mine": str(run / "checkpoints" / "last.ckpt"), "released": "assets/ddpm_mnist.safetensors"}
    assert runs_of(paths) == {"mine": "abcd1234"}


def test_nothing_is_written_where_it_is_disabled(tmp_path):
    evaluate(config(wandb={"mode": "disabled"}, limit=1), Options(output=tmp_path))
    assert not (tmp_path / "wandb_id").exists() and not (tmp_path / "given").exists()
