"""Small files of each kind that an earlier version wrote open, mean the same numbers, and go on."""

import csv
import json
import sys

import pytest
import torch
import yaml
from helpers import ROOT, call
from stored.unpack import HERE, unpack
from torch import Tensor

from checkpoints.features import ClassifierFeatures
from checkpoints.load import load_cold_restorer, load_prior
from checkpoints.lora.apply import adapt
from checkpoints.lora.files import AdapterEntry
from diffusion.denoiser import Condition
from restoration.conditioning_bank import ConditioningBank

#: What the version of before computed with each file (sums of magnitudes), see tests/stored/README.md.
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
X = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
SIGMA = torch.tensor([0.3, 2.0])
#: Float32 sums of some thousand magnitudes of order 1, on processors that add in another order.
CLOSE = {"rel": 1e-4, "abs": 1e-6}


def size(value: Tensor) -> float:
    return float(value.double().abs().sum())


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The folder that holds stored/, as the working directory: paths inside the files begin there."""
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(path: str, weights: str = "ema", condition: Condition | None = None) -> Tensor:
    return load_prior(f"stored/{path}", weights=weights).denoiser.predict(X, SIGMA, condition).x0


def denoised(path: str, weights: str = "ema", condition: Condition | None = None) -> float:
    return size(answer(path, weights, condition))


@pytest.mark.filterwarnings("error::FutureWarning")  # nobody can edit a checkpoint: its old names are not remarked on
def test_priors_mean_the_same(stored):
    labels, image = Condition(label=torch.tensor([3, 7])), Condition(image=-X)
    found = {
        "prior.safetensors": denoised("prior.safetensors"),
        "ddpm/checkpoints/last.ckpt": denoised("ddpm/checkpoints/last.ckpt"),
        "conditional/checkpoints/last.ckpt": denoised("conditional/checkpoints/last.ckpt", "raw", labels),
        "guided.safetensors": denoised("guided.safetensors", condition=image),
    }
    for width in ("0.05", "0.1"):
        path = f"power_ema/ema/width_{width}_images_000000000012.safetensors"
        found[path] = denoised(path)
    for name, value in found.items():
        assert value == pytest.approx(EXPECTED["opened"][name], **CLOSE), name


def test_adapters_mean_the_same(stored):
    """What they change of the prior's answer."""
    alone = answer("prior.safetensors")
    changed = size(answer("lora/checkpoints/last.ckpt") - alone)
    assert changed == pytest.approx(EXPECTED["opened"]["lora/checkpoints/last.ckpt"], rel=1e-2)
    for path in ("adapter_peft", "lora/adapter"):
        denoiser = load_prior("stored/prior.safetensors").denoiser
        adapt(denoiser.network, [AdapterEntry(path=f"stored/{path}", scale=0.5)])
        changed = size(denoiser.predict(X, SIGMA).x0 - alone)
        assert changed == pytest.approx(EXPECTED["opened"][path], rel=1e-2), path  # a difference of float32 numbers


def test_cold_restorers_mean_the_same(stored):
    files = {"restorer.safetensors": "ema", "cold/checkpoints/last.ckpt": "raw", "cold_start.safetensors": "ema"}
    for path, weights in files.items():
        loaded = load_cold_restorer(f"stored/{path}", weights=weights)
        found = size(loaded.restorer.predict(X, torch.tensor([2, 2])))
        assert found == pytest.approx(EXPECTED["opened"][path], **CLOSE), path
        assert (loaded.start is not None and loaded.start.fitted) == path.startswith("cold_start")


def test_a_classifier_and_a_bank_mean_the_same(stored):
    features = ClassifierFeatures(path="stored/classifier/checkpoints/last.ckpt")
    found = size(features.of((127.5 * (X + 1)).to(torch.uint8)).features)
    assert found == pytest.approx(EXPECTED["opened"]["classifier/checkpoints/last.ckpt"], **CLOSE)
    options = yaml.safe_load((stored / "stored/configs/guided.yaml").read_text())["model"]["init_args"]["bank"]
    bank = ConditioningBank(**options["init_args"])
    found = size(bank.conditioning_images(torch.tensor([3, 930])).image)
    assert found == pytest.approx(EXPECTED["opened"]["guide_bank.safetensors"], **CLOSE)


@pytest.mark.parametrize("name", ["ddpm", "conditional", "cold", "classifier", "lora", "dip"])
def test_a_run_goes_on(name, stored):
    """One step more, from the config with the names of before: loss and weights that the version of before gave."""
    run = f"stored/{name}"
    words = ["--config", f"stored/configs/{name}.yaml", "--run", run, "--seed", 0, "--trainer.max_steps", 4]
    result = call(ROOT / "train.py", "fit", *words, cwd=stored)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"continuing '{run}' at step 3" in result.stdout
    rows = [row for row in csv.DictReader((stored / run / "metrics.csv").open()) if row["train/loss"]]
    expected = EXPECTED["continued"][name]
    assert float(rows[-1]["train/loss"]) == pytest.approx(expected["loss"], rel=1e-3)
    content = torch.load(stored / run / "checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    if expected.get("weights"):
        assert sum(map(size, content["state_dict"].values())) == pytest.approx(expected["weights"], rel=1e-4)
    if expected.get("ema"):
        assert sum(map(size, content["ema"]["weights"].values())) == pytest.approx(expected["ema"], rel=1e-4)


def test_finished_results_are_taken_as_they_are(stored):
    """The same fingerprints: nothing is restored, drawn or fitted again."""
    rows = (stored / "stored/evaluate/rows.csv").read_bytes()
    result = call(
        ROOT / "evaluate.py", "--config", "stored/configs/evaluate.yaml", "--output", "stored/evaluate", cwd=stored
    )
    assert result.returncode == 0 and "done already" in result.stdout + result.stderr, (
        result.stdout + result.stderr[-2000:]
    )
    assert (stored / "stored/evaluate/rows.csv").read_bytes() == rows
    drawn = {p: p.stat().st_mtime_ns for p in (stored / "stored/generation/drawn").rglob("*.safetensors")}
    words = ["--config", "stored/configs/generation.yaml", "--output", "stored/generation"]
    result = call(ROOT / "evaluate.py", *words, cwd=stored)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert drawn and all(p.stat().st_mtime_ns == time for p, time in drawn.items())


def test_rows_of_a_study_are_taken_as_they_are(stored, monkeypatch):
    from studies.stopping_study import main

    jobs = {p: p.read_bytes() for p in (stored / "stored/study/jobs").glob("*.json")}
    words = ["stopping_study", "--config", "stored/configs/study.yaml", "--output", "stored/study"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert jobs and all(p.read_bytes() == content for p, content in jobs.items())
