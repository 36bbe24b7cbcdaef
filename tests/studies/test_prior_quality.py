"""A prior's page: what the classifier reads, one call by level, and the command."""

import csv
import math

import pytest
import torch
import yaml
from helpers import call, one_sentence, write_tiny_prior

from checkpoints.classifier import describe_classifier
from checkpoints.files import write_safetensors
from metrics.top_probability import top_probability
from networks.resnet import ResNet
from studies.prior_quality import psnr, reading


def test_what_a_classifier_reads():
    p = torch.tensor([[0.95, 0.05, 0.0], [0.2, 0.3, 0.5], [0.0, 0.02, 0.98], [0.1, 0.9, 0.0]]).repeat(30, 1)
    found = reading("x", p)
    assert found.images == 120 and found.top == pytest.approx((0.95 + 0.5 + 0.98 + 0.9) / 4, abs=1e-6)
    assert (found.sure, found.sure_of_100, found.classes) == (60, 50, (30, 30, 60))  # 0.9 is not above 0.9
    with pytest.raises(ValueError, match="sum to 1"):
        top_probability(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"\[N, classes\]"):
        top_probability(torch.ones(3))


def test_psnr_of_a_level():
    assert psnr(25.5) == pytest.approx(20) and psnr(0) == math.inf


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = ResNet(in_channels=1, channels=[8, 6], groups=2)
    path = tmp_path / "classifier.safetensors"
    write_safetensors(path, network, describe_classifier(network, shape=(1, 8, 8), data="Digits"), key="classifier")
    write_tiny_prior(tmp_path / "prior.safetensors")
    config = {
        "data": "datamodules.digits.Digits",
        "features": {"class_path": "checkpoints.features.ClassifierFeatures", "init_args": {"path": str(path)}},
        "samplers": {"ddim": {"class_path": "diffusion.samplers.ddim.DDIM", "steps": 2}},
        "metrics": {
            "recall": "metrics.precision_recall.Recall",
            "top_probability": "metrics.top_probability.TopProbability",
        },
        "reference": "test",
    }
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(config))
    words = [
        "-m",
        "studies.prior_quality",
        "--config",
        tmp_path / "page.yaml",
        "--prior",
        tmp_path / "prior.safetensors",
    ]
    words += ["--output", tmp_path / "out", "--limit", "110", "--one_shot", "20"]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    classes = list(csv.DictReader((tmp_path / "out/classes.csv").open()))
    assert [row["name"] for row in classes] == ["real images, test", "ddim-2"]
    assert all(sum(int(row[f"class_{k}"]) for k in range(10)) == int(row["images"]) == 110 for row in classes)
    shot = list(csv.DictReader((tmp_path / "out/one_shot.csv").open()))
    assert [float(row["sigma_255"]) for row in shot] == [5, 15, 25, 50, 100, 200]
    table = {
        (r["sampler"], r["metric"]): float(r["value"]) for r in csv.DictReader((tmp_path / "out/table.csv").open())
    }
    text = (tmp_path / "out/quality.md").read_text()
    assert f"{table['ddim', 'recall']:.3g} [" in text and "![ddim-2](images/ddim-2.png)" in text
    assert f"| {float(classes[1]['mean_top_probability']):.4f} | {classes[1]['above_0.9']} |" in text
    assert table["ddim", "top_probability"] == pytest.approx(float(classes[1]["mean_top_probability"]), abs=1e-6)
    one_sentence(call(*words, "--one_shot", "0"), "--one_shot must be at least 1, got 0")
