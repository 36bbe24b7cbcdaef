"""Every metric of the house in one evaluation: numbers where there can be some, a sentence where not, no stop."""

import csv

import pytest

from evaluation.config import parse_config
from evaluation.run import Options, evaluate

FEATURES = {"class_path": "tests.metric_toys.Quadrants"}
IMAGE = {
    "lpips": "metrics.lpips.LPIPS",
    "dists": "metrics.dists.DISTS",
    "ms_ssim": "metrics.ms_ssim.MSSSIM",
    "haarpsi": "metrics.haarpsi.HaarPSI",
    "mdsi": "metrics.mdsi.MDSI",
    "feature_rmse": "metrics.feature_rmse.FeatureRMSE",
    "psnr_missing": "metrics.psnr_of_mask.PSNRMissing",
    "psnr_measured": "metrics.psnr_of_mask.PSNRMeasured",
}
SAMPLES = {
    "cosine": "metrics.pairwise_cosine.PairwiseCosine",
    "pairwise_lpips": "metrics.pairwise_perceptual.PairwiseLPIPS",
    "pairwise_ms_ssim": "metrics.pairwise_perceptual.PairwiseMSSSIM",
    "vendi_of_samples": "metrics.vendi.VendiOfSamples",
    "classes": "metrics.classes.ClassesOfSamples",
    "deviation": "metrics.sample_deviation.SampleDeviation",
}
SETS = {
    "vendi": "metrics.vendi.Vendi",
    "class_entropy": "metrics.classes.ClassEntropy",
    "class_count": "metrics.classes.ClassCount",
    "memorised": "metrics.memorisation.MemorisedShare",
}


@pytest.fixture
def results(tmp_path, monkeypatch, capsys):
    for name in ("WEIGHTS_DIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a network was touched"))
    holes = {"class_path": "degradations.random_mask.RandomMask", "init_args": {"removed": 0.4}}
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 20,
        "tasks": {
            "noise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}},
            "holes": {"degradation": holes, "noise": {"sigma": 0.1}},
        },
        "methods": {"dither": {"class_path": "tests.evaluation.toys.Dither", "num_samples": 3}},
        "features": FEATURES,
        "metrics": {**IMAGE, **SAMPLES, **SETS},
    }
    evaluate(parse_config(raw, "test"), Options(output=tmp_path / "out"))
    with open(tmp_path / "out/table.csv", newline="") as file:
        table = {(r["task"], r["metric"]): float(r["mean"]) for r in csv.DictReader(file) if r["mean"]}
    return table, capsys.readouterr().out


def test_numbers_and_sentences(results):
    results, printed = results
    silent = {
        "LPIPS (alex)": "needs sides of 31 pixels, these images have 8x8",
        "DISTS": "needs sides of 16 pixels",
        "MS-SSIM": "no number of scales fits",
        "HaarPSI": "need sides of 16 pixels",
        "pairwise LPIPS (alex)": "needs sides of 31 pixels",
        "pairwise MS-SSIM": "no number of scales fits",
        "memorised share": "is of generated images against a reference set",
    }
    for label, reason in silent.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{label} is missing: ")]
        assert reason in line
        assert label not in printed.split("SSIM is missing")[0], "a sentence, and no column of dashes"
    for task in ("noise", "holes"):
        found = {metric for t, metric in results if t == task}
        assert found >= {
            "mdsi",
            "feature_rmse",
            "cosine",
            "vendi_of_samples",
            "classes",
            "classes_entropy",
            "deviation",
        }
        assert found >= {"vendi", "class_entropy", "class_count", "fid", "kid"}
        assert not found & {"lpips", "dists", "ms_ssim", "haarpsi", "pairwise_lpips", "memorised"}
        assert (task == "holes") == ("psnr_missing" in found) == ("psnr_measured" in found)
        assert 0.1 < results[task, "deviation"] < 0.2  # Dither adds 0.2, and black and white cut it off
        assert 1 <= results[task, "vendi_of_samples"] <= 3 and 1 <= results[task, "classes"] <= 3
    assert results["holes", "psnr_missing"] < results["holes", "psnr_measured"]
