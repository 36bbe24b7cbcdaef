"""train.py on a deep image prior, as a user calls it: written, stopped, continued bit for bit, finished, refused in one
sentence.
"""

import csv
import re
import signal
from pathlib import Path

import pytest
import torch
from dip_worlds import ARCHITECTURE
from helpers import ROOT, call, call_and_stop, write_config

from common.errors import UserError
from training.cli import TrainCLI

PAGE = (ROOT / "docs/wandb.md").read_text()


def dip_config(**trainer: object) -> dict:
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_modules.deep_image_prior.DeepImagePrior",
            "init_args": {
                "architecture": {"class_path": "networks.untrained.skip.SkipArchitecture", "init_args": ARCHITECTURE},
                "iterations": 300,
                "stopping": {
                    "class_path": "restoration.stopping.es_wmv.ESWMV",
                    "init_args": {"window": 5, "patience": 60},
                },
                "langevin": 0.02,
            },
        },
        "data": {
            "class_path": "datamodules.degraded_images.DegradedImages",
            "init_args": {
                "source": {"class_path": "datamodules.digits.Digits"},
                "count": 2,
                "size": 16,
                "noise": {"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma_255": 25}},
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": -1,
            "log_every_n_steps": 5,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **trainer,
        },
        "checkpoint": {"every_n_steps": 40},
        "wandb": {"mode": "disabled"},
    }


def fit(config: Path, run: Path, *options: object):
    return call("train.py", "fit", "--config", config, "--run", run, *options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """(config, run folder) of an uninterrupted run, with W&B offline."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, dip_config())
    result = fit(config, folder / "run", "--wandb.mode", "offline")
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("stopped after") == 2 and "finished: " in result.stdout
    return config, folder / "run"


def test_what_a_run_writes_and_logs(whole):
    config, run = whole
    written = {p.name for p in (run / "restored").iterdir()}
    assert written == {
        "pictures.csv",
        *(f"0000{k}{end}" for k in range(2) for end in (".png", "_iterates.png", "_curve.png", "_curve.csv")),
    }
    with open(run / "restored/pictures.csv") as file:
        pictures = list(csv.DictReader(file))
    assert [p["picture"] for p in pictures] == ["00000", "00001"] and all("because" in p["why"] for p in pictures)
    with open(run / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["restored/psnr"]) == pytest.approx(sum(float(p["psnr"]) for p in pictures) / 2, abs=1e-4)
    assert float(rows[-1]["restored/iterations"]) == sum(int(p["iterations"]) for p in pictures) / 2
    section = PAGE.split("## What a deep image prior logs")[1].split("\n## ")[0]
    named = {
        n
        for line in section.splitlines()
        if line.startswith("| `")
        for n in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    logged = {
        re.sub(r"^stopping/(?!stopped$).*", "stopping/<value>", n)
        for n in rows[0]
        if n.startswith(("stopping/", "restored/"))
    }
    assert logged == named - {"restored", "restored/psnr_missing"}, "a picture, and what only a mask has"
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1 and list(
        (run / "wandb").glob("offline-run-*/files/media/images/restored*.png")
    )
    result = fit(config, run)
    assert result.returncode == 0 and "is finished" in result.stdout
    # Its end is its own: a larger limit of the trainer does not continue it.
    assert "is finished" in fit(config, run, "--trainer.max_steps", 100_000).stdout


@pytest.mark.slow
def test_sigterm_and_the_same_command_again(whole, tmp_path):
    config, run = whole
    code = call_and_stop(
        signal.SIGTERM,
        "train.py",
        "fit",
        "--config",
        config,
        "--run",
        tmp_path / "run",
        ready=tmp_path / "run/checkpoints/last.ckpt",
        timeout=900,
    )
    assert code == 75
    stopped = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    result = fit(config, tmp_path / "run")
    assert result.returncode == 0 and f"at step {stopped}" in result.stdout, result.stderr[-3000:]
    for path in (run / "restored").iterdir():
        assert path.read_bytes() == (tmp_path / "run/restored" / path.name).read_bytes(), path.name
    a, b = (
        torch.load(r / "checkpoints/last.ckpt", weights_only=True)["deep_image_prior"]["states"]
        for r in (run, tmp_path / "run")
    )
    for number, state in a.items():
        assert all(
            torch.equal(p, q) for p, q in zip(state["fit"]["parameters"], b[number]["fit"]["parameters"], strict=True)
        )


def test_prepare_says_what_is_there(whole, tmp_path):
    result = fit(whole[0], tmp_path / "run", "--prepare")
    assert (
        result.returncode == 0
        and "2 pictures of [1, 16, 16]" in result.stdout
        and "parameters for each picture" in result.stdout
    ), result.stderr[-2000:]


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("fit", ["--trainer.gradient_clip_val", "1"], ["gradient_clip_val"]),
        ("fit", ["--data.size", "7"], ["the image has 7x7 pixels", "at least 8 x 8"]),
        ("fit", ["--model.jitter", "-1"], ["jitter"]),
        ("fit", ["--model.learning_rte", "1"], ["learning_rte", "learning_rate"]),
        ("fit", ["--data", "datamodules.digits.Digits"], ["UserImages"]),
        ("fit", ["--trainer.devices", "3", "--trainer.strategy", "ddp"], ["2 pictures for 3 processes"]),
        ("fit", ["--quality.num_images", "10", "--quality.features", "inception"], ["draws no images"]),
        ("validate", [], ["use fit"]),
        ("predict", [], ["give the config of a prior"]),
    ],
)
def test_a_mistake_is_one_sentence(command, options, words, whole, tmp_path, monkeypatch):
    config, run = whole
    words_of_call = [
        "train.py",
        command,
        "--config",
        str(config),
        "--run",
        str(run if command != "fit" else tmp_path / "run"),
        *options,
    ]
    monkeypatch.setattr("sys.argv", words_of_call)
    with pytest.raises(UserError) as error:
        TrainCLI()
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), str(error.value)
