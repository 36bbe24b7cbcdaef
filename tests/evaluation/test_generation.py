"""Generation quality as a command: what is measured, going on after a stop, processes, refusals, every shipped
configuration.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, call, one_sentence, tiny_denoiser, write_tiny_prior
from PIL import Image
from wandb_reader import contents, records

from checkpoints.classifier import describe_classifier
from checkpoints.features import ClassifierFeatures
from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.build import build
from common.errors import UserError
from common.image_range import to_uint8
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from datamodules.digits import Digits
from diffusion.denoiser import DiscreteDenoiser
from diffusion.drawing import draw
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import Sampler
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from evaluation.generation.config import is_generation, read_generation_config
from evaluation.generation.measures import metrics_of, quality
from evaluation.generation.reference import reference_features
from evaluation.generation.run import evaluate
from evaluation.run import Options
from networks.resnet import ResNet
from networks.unet import UNet

SHIPPED = sorted((ROOT / "configs/evaluate").glob("generation_*.yaml"))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a tiny prior, a tiny classifier, and a configuration of two cells of 130 images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    network = ResNet(in_channels=1, channels=[8, 6], groups=2)
    description = describe_classifier(network, shape=(1, 8, 8), data="Digits")
    write_safetensors(tmp_path / "classifier.safetensors", network, description, dtype=torch.float32, key="classifier")
    write_tiny_prior(tmp_path / "prior.safetensors")
    config = {
        "data": "datamodules.digits.Digits",
        "features": {
            "class_path": "checkpoints.features.ClassifierFeatures",
            "init_args": {"path": str(tmp_path / "classifier.safetensors")},
        },
        "priors": {"default": str(tmp_path / "prior.safetensors")},
        "samplers": {
            "ddim": {"class_path": "diffusion.samplers.ddim.DDIM", "steps": [2]},
            "heun": {"class_path": "diffusion.samplers.heun.Heun", "steps": 4, "spacing": "karras"},
        },
        "num_images": 130,
        "batch_size": 50,
    }
    (tmp_path / "generation.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def run(
    world: Path, output: str = "out", *overrides: tuple[str, str], devices: int = 1
) -> dict[tuple[str, str], float]:
    config = read_generation_config([world / "generation.yaml"], overrides)
    evaluate(config, Options(output=world / output, devices=devices, accelerator="cpu"))
    with open(world / output / "table.csv", newline="") as file:
        return {(row["sampler"] + row["steps"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def test_what_is_measured_is_what_the_prior_draws(world):
    table = run(world)
    denoiser, network = tiny_denoiser(), ClassifierFeatures(path=str(world / "classifier.safetensors"))
    images = draw(
        denoiser, DDIM(), spaced_sigmas(denoiser, 2), index=list(range(130)), random=RandomStreams(0), device="cpu"
    )
    reference = reference_features(Digits().images("train"), network)
    expected = quality(metrics_of(network), network.of_all(to_uint8(images)), reference)
    assert table["ddim2", "fid"] == pytest.approx(expected["fid"].value, rel=1e-3)
    assert table["ddim2", "kid"] == pytest.approx(expected["kid"].value, rel=1e-3)
    assert table["ddim2", "inception_score"] == pytest.approx(expected["inception_score"].value, rel=1e-4)
    above = {s: table.get((s, "fid_above_best"), 0.0) for s in ("ddim2", "heun4")}
    assert min(above.values()) == 0 and abs(above["ddim2"] - above["heun4"]) == pytest.approx(
        abs(table["ddim2", "fid"] - table["heun4", "fid"]), rel=1e-5
    )
    assert ("real images", "fid") in table and table["real images", "fid"] < table["ddim2", "fid"]
    rows = list(csv.DictReader((world / "out/table.csv").open()))
    assert {r["nfe"] for r in rows if r["sampler"] == "heun"} == {"7"}, (
        "counted at the network: two calls, and one on the step to 0"
    )
    page = (world / "out/report.html").read_text()
    assert page.count("<polyline") >= 2 and "data:image/png" in page


@pytest.mark.slow
def test_processes_batches_and_a_stop_change_nothing(world, capsys):
    whole = run(world)
    again = run(world, "two", ("batch_size", "7"), devices=2)
    assert whole.keys() == again.keys()
    assert all(again[k] == pytest.approx(v, rel=1e-3, abs=1e-6) for k, v in whole.items())
    gone = world / "out/drawn/heun-4/0000100.safetensors"
    kept = world / "out/drawn/heun-4/0000000.safetensors"
    before = kept.stat().st_mtime_ns
    gone.unlink()
    (world / "out/drawn/ddim-2/0000100.safetensors").write_bytes(b"torn")
    assert run(world) == pytest.approx(whole, rel=1e-6)
    assert (
        gone.is_file()
        and kept.stat().st_mtime_ns == before
        and "200 images are there already" in capsys.readouterr().err
    )
    more = run(world, "out", ("num_images", "150"))
    assert more["ddim2", "fid"] != whole["ddim2", "fid"]


def test_a_folder_of_other_settings_is_refused(world):
    run(world)
    for overrides in (("seed", "1"), ("samplers.ddim.spacing", "karras"), ("samplers.ddim.init_args.eta", "1.0")):
        with pytest.raises(UserError, match="other settings"):
            run(world, "out", overrides)
    assert run(world, "out", ("samplers.heun", "null")).keys() == {
        (s, m) for s in ("ddim2", "real images") for m in ("fid", "kid", "inception_score")
    }


def test_labels_and_guidance(world):
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1], blocks=1, attention=[], groups=4, num_classes=10)
    denoiser = DiscreteDenoiser(network=network, schedule=Cosine(), prediction="v", data_shape=(1, 8, 8))
    write_safetensors(
        world / "prior.safetensors", network, describe_prior(denoiser, data="Digits"), dtype=torch.float32
    )
    run(world, "guided", ("samplers.ddim.guidance", "3.0"), ("samplers.heun", "null"))
    rows = list(csv.DictReader((world / "guided/table.csv").open()))
    assert {r["nfe"] for r in rows if r["sampler"] == "ddim"} == {"4"}, "guidance doubles the network evaluations"
    with pytest.raises(UserError, match=r"samplers.ddim.*classes 0 \.\. 9"):
        run(world, "label", ("samplers.ddim.label", "10"))


def test_metrics_are_named_by_class_path(world):
    """One more and one less; columns, the page and what cells are ranked by follow."""
    first = run(world)
    shift = ("metrics.shift", "tests.evaluation.toy_metrics.MeanShift")
    table = run(world, "out", shift, ("metrics.fid", "null"), ("metrics.inception_score", "null"))
    assert {metric for _, metric in table} == {"kid", "kid_above_best", "shift"}
    assert table["ddim2", "kid"] == first["ddim2", "kid"]
    page = (world / "out/report.html").read_text()
    assert "KID − best is paired" in page and "Mean shift is simple." in page and "mean shift" in page
    assert "FID, N → ∞ is missing: needs at least 240 images, there are 130." in page
    for spec, words in (
        ("metrics.psnr.PSNR", "not a usable DistributionMetric"),
        ("{class_path: metrics.fid.FID, init_args: {features: checkpoints.features.InceptionFeatures}}", "share one"),
    ):
        with pytest.raises(UserError, match=words):
            run(world, "out", ("metrics.more", spec))


def test_the_mark_of_few_images_is_explained(world, capsys):
    """On the screen and on the page; where nothing is marked it is not said."""
    alone = ("samplers.heun", "null")
    words = "† of fewer than 60 images, where the bias of FID is larger than most differences between methods"
    run(world, "few", alone, ("num_images", "40"))
    assert words in " ".join(capsys.readouterr().out.split())
    assert words in (page := (world / "few/report.html").read_text()) and ">†<" in page
    run(world, "against_few", alone, ("reference_images", "40"))  # nor is a number surer than its reference
    assert "of the reference: 40 images are few for 6 features" in (printed := capsys.readouterr()).err
    assert words in " ".join(printed.out.split())
    run(world, "more", alone)
    assert "†" not in capsys.readouterr().out and "†" not in (world / "more/report.html").read_text()


def test_statistics_of_others_are_a_sentence_where_they_do_not_fit_or_are_not_there(world, monkeypatch):
    """Those of another data set, split or size are refused before anything is drawn; a file that is not there is a line
    below the table, and the other metrics go on.
    """
    for name in ("WEIGHTS_DIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(world / "nothing"))
    monkeypatch.setattr("tempfile.tempdir", str(world))
    (world / "inception.safetensors").write_bytes((world / "classifier.safetensors").read_bytes())
    own = ("features.init_args.path", str(world / "inception.safetensors"))  # the network of that name
    monkeypatch.setattr("metrics.stored_statistics._of_clean_fid", lambda name: world / "stats" / name)

    def of(statistics):
        return ("metrics.fid.init_args.statistics", statistics)

    for statistics, words in (
        ("cifar10_clean_train_8", "of the data set cifar10, these images of Digits: give those of Digits"),
        ("digits_clean_test_8", "of the split test, the reference is train: make them equal"),
        ("digits_clean_train_32", "of images of 32x32, these have 8x8"),
        ("digits_legacy_pytorch_train_8", "in the mode legacy_pytorch, .* give digits_clean_train_8"),
    ):
        with pytest.raises(UserError, match=words):
            run(world, "none", own, of(statistics))
    assert not (world / "none").exists()
    table = run(world, "out", own, of("digits_clean_train_8"), ("samplers.heun", "null"))
    assert ("ddim2", "kid") in table and ("ddim2", "fid") not in table
    words = "FID, digits_clean_train_8 is missing: clean-fid&#39;s statistics digits_clean_train_8.npz is not there"
    assert words in (world / "out/report.html").read_text()


def test_nearness_to_training_images_asks_for_all_of_them(world):
    """Against another split, or a part, it would be a number of something else."""
    memorised = ("metrics.memorised", "metrics.memorisation.MemorisedShare")
    authentic = ("metrics.authentic", "metrics.memorisation.AuthenticShare")
    for override, words in (
        (("reference", "test"), r"metrics\.memorised .* 'train': reference is 'test', give reference: train"),
        (("reference_images", "50"), r"metrics\.memorised needs all images of the split 'train'.*\(50\)"),
    ):
        with pytest.raises(UserError, match=words):
            run(world, "none", memorised, override)
    table = run(world, "out", memorised, authentic, ("samplers.heun", "null"))
    assert 0 <= table["ddim2", "memorised"] <= 1 and 0 <= table["ddim2", "authentic"] <= 1
    assert not (world / "none").exists()


def test_mistakes_are_one_sentence(world):
    cases = {
        ("samplers.ddim.guidance", "2.0"): "needs labels",
        ("samplers.ddim.steps", "[0]"): "at least 1",
        ("samplers.ddim.steps", "[5000]"): "1 .. 1000",
        ("samplers.heun.steps", "[3]"): "samplers.heun, 3 steps: the first step of Heun's method",
        ("samplers.ddim.prior", "other"): "needs the prior 'other'",
        ("priors.default.path", "runs/flow_cifar10/checkpoints/gone.ckpt"): "configs/train/flow_cifar10.yaml makes it",
        ("samplers.ddim.stepz", "3"): "did you mean",
        ("num_image", "3"): "did you mean",
        ("reference", "validation"): "train or test",
        ("reference_images", "1"): "reference_images must be a whole number of at least 2, got 1",
        ("num_images", "3"): "num_images must be a whole number of at least 4, got 3",
        ("data", "datamodules.mnist.MNIST"): "images of [1, 8, 8], and data has [1, 28, 28]",
        ("features", "checkpoints.features.InceptionFeatures"): "Inception network is not there",
        ("samplers.ddim.class_path", "os.system"): "samplers.ddim",
    }
    for override, words in cases.items():
        with pytest.raises(UserError) as caught:
            run(world, "none", override)
        assert words in str(caught.value), (override, str(caught.value))
    assert not (world / "none").exists()


def test_as_a_command(world):
    dry = call(
        "evaluate.py",
        "--config",
        world / "generation.yaml",
        "--output",
        world / "cli",
        "--dry_run",
        "--accelerator",
        "cpu",
    )
    assert dry.returncode == 0 and "nothing was run" in dry.stdout and not (world / "cli").exists(), dry.stderr
    one_sentence(
        call("evaluate.py", "--config", world / "generation.yaml", "--metrics_only", "--output", world / "cli"),
        "--metrics_only",
    )
    done = call(
        "evaluate.py",
        "--config",
        world / "generation.yaml",
        "--output",
        world / "cli",
        "--limit",
        40,
        "--wandb.mode=offline",
        "--accelerator",
        "cpu",
    )
    assert done.returncode == 0 and "FID" in done.stdout, done.stderr
    (file,) = (world / "cli/wandb").glob("offline-run-*/*.wandb")
    found = records(file)
    summary = {name for r in found if r["type"] == "summary" for name in r["summary"].get("update", {})}
    assert {"quality/fid", "quality/kid", "quality/best", "images/ddim-2.path"} <= summary
    files = {name: place for r in found if r["type"] == "artifact" for name, place in contents(r).items()}
    assert {"report.html", "table.csv", "config.yaml"} <= set(files)
    table = json.loads(Path(files["generation.table.json"]).read_text())
    with (world / "cli/table.csv").open(newline="") as lines:
        rows = {(row["sampler"], row["steps"]): row["value"] for row in csv.DictReader(lines) if row["metric"] == "fid"}
    logged = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert {(row["sampler"], str(row["steps"] or "")): f"{row['fid']:.8g}" for row in logged} == rows


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_configuration(path, world):
    """Parsed and built; then run with a tiny prior of the data's shape and few images and steps."""
    assert is_generation([path])
    config = read_generation_config([path])
    data = build(config.data, ImageDataModule, where="data")
    for name, entry in config.samplers.items():
        build({"class_path": entry.class_path, "init_args": entry.init_args}, Sampler, where=name)
    shape = tuple(data.shape)
    write_tiny_prior(world / "shaped.safetensors", shape)
    network = ResNet(in_channels=shape[0], channels=[8, 6], groups=2)
    pool = config.features["init_args"].get("pool", 1)  # stays, as options that are not given do
    write_safetensors(
        world / "shaped_classifier.safetensors",
        network,
        describe_classifier(network, shape=(shape[0], shape[1] // pool, shape[2] // pool), data="x"),
        key="classifier",
    )
    digits = world / "pictures"
    digits.mkdir()
    generator = torch.Generator().manual_seed(0)
    for k in range(24):
        pixels = torch.randint(0, 256, (shape[1], shape[2], 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels if shape[0] == 3 else pixels[..., 0]).save(digits / f"{k}.png")
    folder = (
        "{class_path: datamodules.image_folder.ImageFolder, init_args: {folder: %s, size: %d, mode: %s,"
        " test_images: 8}}"
    )
    overrides = [
        ("data", folder % (digits, shape[1], "grey" if shape[0] == 1 else "colour")),
        (
            "features",
            "{class_path: checkpoints.features.ClassifierFeatures, init_args: {path: %s}}"
            % (world / "shaped_classifier.safetensors"),
        ),
        *[(f"priors.{name}.path", str(world / "shaped.safetensors")) for name in config.priors],
        ("num_images", "4"),
        *[(f"samplers.{name}.steps", "[4]") for name in config.samplers],
    ]
    lines = evaluate(read_generation_config([path], overrides), Options(output=world / "shipped", accelerator="cpu"))
    assert len(lines) >= len(config.samplers)
    shutil.rmtree(world / "shipped")
