"""FID, KID and the pooled RMSE of restored images: right, kept, renewed, refused in time; the same from one process and
two.
"""

import csv
import os

import numpy as np
import pytest
import torch
from helpers import call
from PIL import Image

from checkpoints.classifier import describe_classifier
from checkpoints.features import ClassifierFeatures
from checkpoints.files import write_safetensors
from common.errors import UserError
from datamodules.digits import Digits
from evaluation.config import parse_config
from evaluation.plan import make_plan
from evaluation.run import Options, dry_run, evaluate
from metrics.fid import fid
from metrics.kid import kid_of_pairs
from metrics.moments import Moments
from networks.resnet import ResNet

TOYS = "tests.evaluation.toys."
COUNT = 24


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Features of the true images are kept between runs: not in the folder of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A feature network for 8x8 digits."""
    return write_network(tmp_path_factory.mktemp("features") / "classifier.safetensors", (1, 8, 8))


def write_network(path, shape, seed=0):
    torch.manual_seed(seed)
    network = ResNet(in_channels=shape[0], channels=[8, 6], groups=2)
    write_safetensors(
        path, network, describe_classifier(network, shape=shape, data="Digits"), dtype=torch.float32, key="classifier"
    )
    return {"class_path": "checkpoints.features.ClassifierFeatures", "init_args": {"path": str(path)}}


def config(features, **changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "features": features,
        "limit": COUNT,
        "batch_size": 9,
        "tasks": {
            "blur": {
                "degradation": {
                    "class_path": "degradations.circular_blur.CircularGaussianBlur",
                    "init_args": {"std": 0.7},
                }
            },
            "few": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.3}, "limit": 3},
        },
        "methods": {
            "oracle": TOYS + "Oracle",
            "degraded": "restoration.degraded.Degraded",
            "dither": {"class_path": TOYS + "Dither", "num_samples": 2},
        },
        "metrics": {"mse": "metrics.mse.MSE"},
    }
    return parse_config(raw | changes, "test")


def run(folder, asked, **options):
    evaluate(asked, Options(output=folder, accelerator="cpu", **options))
    return table_of(folder)


def table_of(folder):
    with open(folder / "table.csv", newline="") as file:
        rows = {(r["task"], r["method"], r["metric"]): r for r in csv.DictReader(file)}
    return {
        key: {k: float(r[k]) if r[k] else float("nan") for k in ("mean", "ci_low", "ci_high", "n")}
        for key, r in rows.items()
    }


def distances(folder, asked, **options):
    """FID and KID of the task with enough images."""
    return {
        key: cell
        for key, cell in run(folder, asked, **options).items()
        if key[0] == "blur" and key[2] in ("fid", "kid")
    }


@pytest.fixture(scope="module")
def done(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    run(folder, config(features))
    return folder


def saved(folder, asked, method):
    plan = make_plan(asked)
    pictures = []
    for row in plan.tasks["blur"].rows:
        with Image.open(folder / "restored" / "blur" / method / f"{plan.names[row]}_0.png") as image:
            pictures.append(torch.from_numpy(np.array(image))[None])
    return torch.stack(pictures), plan.images.get(list(plan.tasks["blur"].rows)).image


def counted(monkeypatch):
    """How many images the feature network is shown."""
    seen = []
    original = ClassifierFeatures.of
    monkeypatch.setattr(
        ClassifierFeatures, "of", lambda self, images: seen.append(len(images)) or original(self, images)
    )
    return seen


def test_the_numbers_are_those_of_the_saved_images(done, features):
    asked, table = config(features), table_of(done)
    network = ClassifierFeatures(**features["init_args"])
    for method in ("degraded", "dither"):  # of dither, sample 0 alone
        restored, truth = saved(done, asked, method)
        x, y = network.of(restored).features, network.of(truth).features
        cell = table["blur", method, "fid"]
        assert cell["mean"] == pytest.approx(fid(x, Moments.of(y)).value, rel=1e-6) and cell["n"] == COUNT
        expected = kid_of_pairs(x, y)
        found = table["blur", method, "kid"]
        assert found["mean"] == pytest.approx(expected.value, rel=1e-6)
        assert (found["ci_low"], found["ci_high"]) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert abs(table["blur", "oracle", "fid"]["mean"]) < 1e-6 < table["blur", "degraded", "fid"]["mean"]
    assert abs(table["blur", "oracle", "kid"]["mean"]) < 1e-9


def test_the_pooled_rmse_is_the_root_over_all_pixels(done, features):
    table = table_of(done)
    restored, truth = saved(done, config(features), "degraded")
    errors = (restored.double() - truth.double()).square().mean((1, 2, 3)) / 255**2
    cell = table["blur", "degraded", "rmse_pooled"]
    assert cell["mean"] == pytest.approx(float(errors.mean().sqrt()), rel=1e-7)
    squared = table["blur", "degraded", "mse"]  # by pseudo-values: nearly the root of the interval of the mean
    assert cell["ci_low"] == pytest.approx(squared["ci_low"] ** 0.5, rel=3e-3) and cell["ci_high"] == pytest.approx(
        squared["ci_high"] ** 0.5, rel=3e-3
    )
    assert table["blur", "oracle", "rmse_pooled"]["mean"] == 0


def test_report_and_terminal_show_them(done, features, capsys):
    asked = config(features)
    run(done, asked)
    printed = capsys.readouterr()
    for words in ("FID", "KID", "x 1000", "RMSE, pooled", "sample 0"):
        assert words in printed.out, words
    assert f"warning: {COUNT} images are few for" in printed.err and "FID and KID need at least 4 images" in printed.err
    page = (done / "report.html").read_text()
    kid = table_of(done)["blur", "degraded", "kid"]["mean"]
    assert (
        ">FID<" in page
        and "<small>x 1000</small>" in page
        and "RMSE, pooled" in page
        and f"{1000 * kid:.4g}"[:4] in page
    )
    assert "images are few for" in page and "a jackknife over blocks of images" in page and "classifier" in page


def test_too_few_images_are_missing_and_nothing_breaks(done):
    table = table_of(done)
    assert np.isnan(table["few", "degraded", "fid"]["mean"]) and table["few", "degraded", "fid"]["n"] == 3
    assert not any(line.startswith("few,") for line in (done / "distribution.csv").read_text().splitlines())


def test_what_is_there_is_not_measured_again(features, tmp_path, monkeypatch):
    asked = config(features)
    before = distances(tmp_path, asked)
    seen = counted(monkeypatch)
    assert distances(tmp_path, asked) == distances(tmp_path, asked, metrics_only=True) == before
    assert not seen
    # A method that is added is measured alone; the truths are in the cache.
    more = dict(asked.plain()["methods"], back=TOYS + "Back")
    assert len(distances(tmp_path, config(features, methods=more))) == len(before) + 2
    assert sum(seen) == COUNT
    # Fewer images, then as many as before.
    seen.clear()
    part = distances(tmp_path, config(features, limit=10))
    assert part["blur", "degraded", "fid"]["n"] == 10 and sum(seen) == 4 * 10
    seen.clear()
    assert distances(tmp_path, asked) == before and not seen
    # An image that was replaced by hand, and a damaged file.
    path = next((tmp_path / "restored/blur/degraded").glob("*_0.png"))
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(path)
    os.utime(path, ns=(1, 1))
    after = distances(tmp_path, asked, metrics_only=True)
    assert sum(seen) == COUNT and after["blur", "degraded", "fid"] != before["blur", "degraded", "fid"]
    assert after["blur", "dither", "fid"] == before["blur", "dither", "fid"]
    (tmp_path / "distribution.csv").write_bytes((tmp_path / "distribution.csv").read_bytes()[:-40])
    assert distances(tmp_path, asked) == after


def test_few_images_have_a_distance_and_no_interval(features, tmp_path, capsys):
    """Nor one that an earlier version wrote: 5 images gave [-21, 27]."""
    asked = config(features, limit=10, methods={"degraded": "restoration.degraded.Degraded"})
    cell = distances(tmp_path, asked)["blur", "degraded", "fid"]
    assert cell["mean"] > 0 and np.isnan(cell["ci_low"]) and np.isnan(cell["ci_high"]) and cell["n"] == 10
    sentence = "FID of 10 images is shown without an interval"
    assert sentence in (tmp_path / "report.html").read_text() and "FID of 10 images" in capsys.readouterr().out
    path = tmp_path / "distribution.csv"
    with path.open(newline="") as file:
        (line,) = csv.DictReader(file)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, line)
        writer.writeheader()
        writer.writerow(line | {"fid": "7", "fid_ci_low": "-21", "fid_ci_high": "27"})
    cell = distances(tmp_path, asked)["blur", "degraded", "fid"]
    assert cell["mean"] == 7 and np.isnan(cell["ci_low"]) and np.isnan(cell["ci_high"])


def test_another_network_gives_other_numbers(features, tmp_path):
    plain = run(tmp_path, config(None))
    assert not any(metric in ("fid", "kid") for _, _, metric in plain) and not (tmp_path / "distribution.csv").exists()
    first = distances(tmp_path, config(features))  # added to a folder that was restored without it
    other = write_network(tmp_path / "other.safetensors", (1, 8, 8), seed=1)
    second = distances(tmp_path, config(other))
    assert second["blur", "degraded", "fid"]["mean"] != first["blur", "degraded", "fid"]["mean"]
    assert distances(tmp_path, config(features)) == first


@pytest.mark.slow
def test_processes_and_a_stop_change_nothing(done, features, tmp_path):
    asked = config(features)
    run(tmp_path, config(features, limit=7))
    rows = (tmp_path / "rows.csv").read_text().splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join(rows[:5]) + rows[5][:20])
    two, one = run(tmp_path, asked, devices=2), table_of(done)
    assert two.keys() == one.keys()
    for key, cell in one.items():
        for name, value in cell.items():
            assert two[key][name] == pytest.approx(value, rel=1e-4, abs=1e-9, nan_ok=True), (key, name)


def test_a_network_for_other_images_is_refused_before_anything_runs(tmp_path):
    other = config(write_network(tmp_path / "large.safetensors", (1, 28, 28)))
    for command in (evaluate, dry_run):
        with pytest.raises(UserError, match=r"knows images of \[1, 28, 28\], these are \[1, 8, 8\]"):
            command(other, Options(output=tmp_path / "out"))
    for wrong, words in (
        ({"class_path": "metrics.psnr.PSNR"}, "features"),
        (dict(other.features, init_args={"path": "no.safetensors"}), "no.safetensors"),
    ):
        with pytest.raises(UserError, match=words):
            make_plan(config(wrong))
    assert not (tmp_path / "out").exists()


def test_as_a_command(features, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        "data: datamodules.digits.Digits\nfeatures: {class_path: checkpoints.features.ClassifierFeatures, init_args:"
        " {path: no.safetensors}}\ntasks: {denoise: {degradation: degradations.identity.Identity, noise: {sigma:"
        " 0.3}}}\nmethods: {degraded: restoration.degraded.Degraded}\nmetrics: {mse: metrics.mse.MSE}\n"
    )
    arguments = ("evaluate.py", "--config", path, "--output", tmp_path / "out", "--limit", 12, "--accelerator", "cpu")
    done = call(*arguments, f"--features.init_args.path={features['init_args']['path']}")
    assert done.returncode == 0 and "FID" in done.stdout and "RMSE, pooled" in done.stdout, done.stderr
    assert len(Digits().images("test")) > 12 and table_of(tmp_path / "out")["denoise", "degraded", "fid"]["n"] == 12
