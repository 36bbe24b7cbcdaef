"""docs/wandb.md names everything that is logged, and nothing else."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, tiny_config, write_config

from checkpoints.classifier import describe_classifier
from checkpoints.files import write_safetensors
from networks.resnet import ResNet
from training.cli import TrainCLI

PAGE = (ROOT / "docs/wandb.md").read_text()

#: Named on the page, but not logged by a run of a prior on a CPU.
ELSEWHERE = {
    "memory/device_peak_gib",
    "val/accuracy",
    "test/accuracy",
    "test/loss",
    "quality/best",
    "trainer/global_step",
    "samples",
}
ELSEWHERE |= {"generation", "restoration"}


def documented() -> set[str]:
    """The names in the first columns of the tables under "What is logged"."""
    section = PAGE.split("## What is logged")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def general(name: str) -> str:
    """val/loss_t000-199 is val/loss_<bin>."""
    name = re.sub(r"^val/loss_[tq]\d+-\d+$", "val/loss_<bin>", name)
    return re.sub(r"^quality/\w+_(low|high)$", r"quality/<measure>_\1", name)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder with all callbacks on: learned variance, quality, offline W&B."""
    folder = tmp_path_factory.mktemp("names")
    torch.manual_seed(0)
    network = ResNet(in_channels=1, channels=[8, 6], groups=2)
    description = describe_classifier(network, shape=(1, 8, 8), data="Digits")
    write_safetensors(folder / "features.safetensors", network, description, dtype=torch.float32, key="classifier")
    config = tiny_config(max_steps=4, val_check_interval=2)
    model = config["model"]["init_args"]
    model["variance"], model["weighting"] = "learned_range", {"class_path": "diffusion.weighting.simple.Simple"}
    model["network"]["init_args"]["out_channels"] = 2
    config["quality"] = {"num_images": 240, "features": str(folder / "features.safetensors")}
    config["wandb"] = {"mode": "offline"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(
            "sys.argv", ["train.py", "fit", "--config", str(write_config(folder, config)), "--run", str(folder / "run")]
        )
        import wandb

        wandb.finish()  # a fixture of a module begins before what closes runs after each test
        TrainCLI()
        wandb.finish()
    return folder / "run"


def test_what_is_logged_is_on_the_page_and_the_other_way_round(run):
    with open(run / "metrics.csv") as file:
        logged = {general(name) for name in csv.DictReader(file).fieldnames or () if name != "step"}
    assert logged <= documented(), logged - documented()
    assert documented() - ELSEWHERE == logged
    assert any(p.suffix == ".png" for p in (run / "samples").iterdir())


def test_rows_in_wandb_carry_the_number_of_images(run):
    """Else a graph of val/loss or quality/fid against images would be empty."""
    files = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1 and (run / "wandb_id").read_text().strip() in files[0].name
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(files[0])]
    result = subprocess.run(reader, capture_output=True, text=True, timeout=120)
    records = [yaml.safe_load(line) for line in result.stdout.splitlines() if '"type":"history"' in line]
    rows = [r["history"]["item"] for r in records]
    if not rows:
        pytest.skip(f"this wandb shows no records: {result.stderr[:200]}")
    for name, images in {"val/loss": [32, 64], "quality/fid": [64], "train/loss": [16, 32, 48, 64]}.items():
        assert [r["images"] for r in rows if name in r] == images
    assert any(key.startswith("samples") for r in rows for key in r)


def test_the_sweeps_on_the_page_are_those_that_ship():
    section = PAGE.split("## Sweeps")[1]
    named = dict(re.findall(r"\| `(\w+)\.yaml` \|[^|]*\| (\d+),", section))
    from sweeps.expand import read_sweep

    shipped = {p.stem: str(len(read_sweep(p).combinations)) for p in (ROOT / "configs/sweeps").glob("*.yaml")}
    assert named == shipped
