"""What a cold restorer draws, as a command: its table is what the measures say, it goes on where it stopped, and
mistakes are one sentence.
"""

import csv
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from checkpoints.classifier import describe_classifier
from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from common.errors import run_cli
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold_restorer import ColdRestorer
from diffusion.cold_starts.constant_colour import ConstantColour
from diffusion.cold_starts.full_mask import FullMask
from diffusion.cold_starts.pure_noise import PureNoise
from networks.resnet import ResNet
from networks.unet import UNet
from studies import cold_generation


def prior(path: Path, family, start) -> Path:
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    if not start.fitted:
        start.fit(torch.randint(256, (200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    restorer = ColdRestorer(network=network, family=family, data_shape=(1, 8, 8)).eval()
    write_safetensors(path, network, describe_cold_restorer(restorer, data="Digits", start=start), dtype=torch.float32)
    return path


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    features, classifier = ResNet(in_channels=1, channels=[8, 6], groups=2), tmp_path / "classifier.safetensors"
    write_safetensors(
        classifier,
        features,
        describe_classifier(features, shape=(1, 8, 8), data="Digits"),
        dtype=torch.float32,
        key="classifier",
    )

    def call(path: Path, *words: object) -> tuple[int | str | None, str]:
        fixed = [
            "--prior",
            path,
            "--data",
            "datamodules.digits.Digits",
            "--features",
            classifier,
            "--num_images",
            24,
            "--output",
            tmp_path / "out",
        ]
        monkeypatch.setattr(sys, "argv", ["cold_generation", *map(str, [*fixed, *words])])
        with pytest.raises(SystemExit) as outcome:
            run_cli(cold_generation.main)
        return outcome.value.code, capsys.readouterr().err

    return call


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_noise_is_crossed_with_algorithms_and_the_same_command_goes_on(run, tmp_path, monkeypatch):
    path = prior(
        tmp_path / "blur.safetensors", GaussianBlur(steps=20, taps=7, std=3.0, to_mean=True), ConstantColour(noise=0.01)
    )
    assert run(path, "--noise", 0, 0.2, "--algorithm", "direct", "improved", "--batch_size", 10)[0] == 0
    found = rows(tmp_path / "out")
    assert [(r["noise"], r["algorithm"]) for r in found] == [
        ("0", "direct"),
        ("0", "improved"),
        ("0.2", "direct"),
        ("0.2", "improved"),
    ]
    assert all(float(r["fid_low"]) <= float(r["fid"]) for r in found)
    # More noise in the start, more diverse images; another batch size, the same images.
    assert float(found[2]["pixel_rmse"]) > float(found[0]["pixel_rmse"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    drawn = []
    original = cold_generation.draw
    monkeypatch.setattr(cold_generation, "draw", lambda *a: (drawn.append(a[2]), original(*a))[1])
    assert run(path, "--noise", 0, 0.2, "--algorithm", "direct", "improved", "naive", "--batch_size", 24)[0] == 0
    again = rows(tmp_path / "out")
    assert {s.algorithm for s in drawn} == {"naive"} and [r for r in again if r["algorithm"] != "naive"] == found
    # a picture of another number of images is drawn, although the row is there
    assert run(path, "--noise", 0, "--algorithm", "direct", "--shown", 9)[0] == 0
    with Image.open(tmp_path / "out" / "noise0_direct_steps0_9.png") as few:
        assert few.size[0] == few.size[1] == 3 * (64 + 4) + 4
    (tmp_path / "out" / "table.csv").unlink()
    assert run(path, "--noise", 0.2, "--algorithm", "direct", "--batch_size", 24)[0] == 0
    assert float(rows(tmp_path / "out")[0]["pixel_rmse"]) == pytest.approx(float(found[2]["pixel_rmse"]), rel=1e-3)


def test_other_weights_or_other_reference_images_are_measured_anew(run, tmp_path, monkeypatch):
    """A row belongs to its weights and to the images that it was compared with."""
    path = prior(
        tmp_path / "blur.safetensors", GaussianBlur(steps=20, taps=7, std=3.0, to_mean=True), ConstantColour(noise=0.01)
    )
    assert run(path)[0] == 0
    first = rows(tmp_path / "out")[0]
    whole = cold_generation.reference_features
    monkeypatch.setattr(
        cold_generation, "reference_features", lambda images, network: whole(images, network, limit=300)
    )
    assert run(path)[0] == 0
    other = rows(tmp_path / "out")[0]
    assert other["fid"] != first["fid"] and other["fingerprint"] != first["fingerprint"]
    assert run(path, "--weights", "raw")[0] == 0
    assert rows(tmp_path / "out")[0]["fingerprint"] != other["fingerprint"]


def test_hot_generation_with_estimated_and_fixed_noise(run, tmp_path):
    path = prior(tmp_path / "hot.safetensors", GaussianNoiseFamily(steps=12), PureNoise())
    assert run(path, "--estimated_noise", "true", "false", "--steps", 0, 4)[0] == 0
    assert [(r["steps"], r["estimated_noise"]) for r in rows(tmp_path / "out")] == [
        ("0", "true"),
        ("0", "false"),
        ("4", "true"),
        ("4", "false"),
    ]


def test_mistakes_are_one_sentence(run, tmp_path):
    path = prior(tmp_path / "masks.safetensors", CoveringMask(steps=6), FullMask())
    for words, said in [
        (["--noise", 0.1], "--noise is for a start with the option noise"),
        (["--steps", -1], "--steps 0"),
        (["--steps", 3, 7], "--steps must be at most 6"),
        (["--estimated_noise", "true"], "--estimated_noise is for Gaussian noise"),
        (["--data", "datamodules.mnist.MNIST"], "has images of [1, 28, 28]"),
        (["--noize", 1], "--noize"),
    ]:
        code, err = run(path, *words)
        assert code == 2 and err.count("error:") == 1, err
        assert said in " ".join(err.split()), err
