"""evaluate.py --prepare: what a configuration needs, what of it is there, what could be fetched."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import evaluate
from checkpoints import inception
from checkpoints.features import InceptionFeatures
from common.errors import UserError
from evaluation.config import parse_config
from evaluation.generation.config import read_generation_config
from evaluation.prepare import needs, prepare
from metrics import lpips, published_networks

INCEPTION = {"class_path": "checkpoints.features.InceptionFeatures"}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Published files of a few bytes, at addresses that need no network; nothing is on this machine."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "published").mkdir()

    def moved(file):
        (tmp_path / "published" / file.name).write_bytes(file.name.encode())
        return replace(file, url=(tmp_path / "published" / file.name).as_uri(), sha256="")

    networks = {net: (moved(file), least) for net, (file, least) in published_networks.LPIPS_NETWORKS.items()}
    monkeypatch.setattr(lpips, "LPIPS_NETWORKS", networks)
    monkeypatch.setattr(inception, "SCRIPTED", moved(inception.SCRIPTED))
    return tmp_path


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 4,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {"back": "tests.evaluation.toys.Back"},
        "metrics": {"lpips": "metrics.lpips.LPIPS", "fid": {"class_path": "metrics.fid.FID", "init_args": {}}},
        "features": INCEPTION,
    }
    return parse_config(raw | changes, "test")


def test_it_lists_and_fetches_and_then_nothing_is_missing(published, capsys):
    assert prepare(config()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("there     data set Digits: ") and "test images" in lines[0]
    for name in ("alexnet-owt-7be5be79.pth", "inception-2015-12-05.pt"):
        assert sum(line.startswith("fetching") and name in line for line in lines) == 1
        (there,) = (line for line in lines if line.startswith("there") and name in line)
        assert f"'{published / 'weights' / name}' (" in there and "kB" in there
    assert lines[-1] == "everything is there: the evaluation needs no network"
    assert prepare(config()) == 0 and "fetching" not in capsys.readouterr().out


def test_what_cannot_be_had_is_one_sentence_each(published, monkeypatch, capsys):
    monkeypatch.setattr("evaluation.prepare.prepared", lambda training: "2 steps of 16 images")
    for path in (published / "published").iterdir():
        path.unlink()
    asked = config(
        priors={"default": "runs/flow_faces_64/checkpoints/gone.ckpt", "mine": {"path": "mine.safetensors"}},
        methods={"back": {"class_path": "tests.evaluation.toys.Back", "init_args": {}}},
    )
    assert prepare(asked, ["--config", "a b.yaml"]) == 1
    printed = capsys.readouterr().out
    missing, ahead = (part.splitlines() for part in printed.split("not to be had:\n")[1].split("\n\n"))
    assert len(missing) == 4 and all(line.startswith("- ") for line in missing)
    words = "\n".join(missing)
    assert "train it, python train.py fit --config configs/train/flow_faces_64.yaml" in words
    assert "prior 'mine', mine.safetensors: it is not there: put it there" in words
    assert words.count("could not be fetched from file://") == 2
    assert sum(line.startswith("missing") for line in printed.splitlines()) == 4
    assert ahead == [
        "to be trained first, in this order (flow_faces_64):",
        "- python train.py fit --config configs/train/flow_faces_64.yaml: 2 steps of 16 images",
        "all of it by one command, also as jobs: python -m studies.chain --config 'a b.yaml'",
    ]


def test_a_damaged_file_is_said(published, monkeypatch, capsys):
    networks = {net: (replace(file, sha256="0" * 8), n) for net, (file, n) in lpips.LPIPS_NETWORKS.items()}
    monkeypatch.setattr(lpips, "LPIPS_NETWORKS", networks)
    (published / "weights").mkdir()
    (published / "weights" / "alexnet-owt-7be5be79.pth").write_bytes(b"half")
    assert prepare(config(features=None, metrics={"lpips": "metrics.lpips.LPIPS"})) == 1
    assert "is not the file that was published: delete it" in capsys.readouterr().out


def test_each_file_once_with_all_that_name_files(published):
    own = {"class_path": "checkpoints.features.ClassifierFeatures", "init_args": {"path": "assets/a.safetensors"}}
    asked = config(
        metrics={
            "lpips": {"class_path": "metrics.lpips.LPIPS", "init_args": {"net": "squeeze"}},
            "other": {"class_path": "metrics.pairwise_perceptual.PairwiseLPIPS", "init_args": {"net": "squeeze"}},
            "distance": {"class_path": "metrics.feature_rmse.FeatureRMSE", "init_args": {"features": own}},
            "cosine": {"class_path": "metrics.pairwise_cosine.PairwiseCosine"},
        },
        tasks={"blur": {"degradation": {"class_path": "x.Y", "init_args": {"kernels": [{"path": "kernel.png"}]}}}},
        priors={"default": {"path": "a.ckpt", "adapters": ["lora_a"]}},
    )
    found = [need.what for need in needs(asked)]
    assert len(found) == len(set(found)) == 7
    words = "\n".join(found)
    for part in ("squeezenet1_1", "assets/a.safetensors", "kernel.png", "a.ckpt", "lora_a", "Digits", "inception"):
        assert part in words
    assert "alexnet" not in words


def test_weights_of_a_metric_inside_of_another(published, capsys):
    inside = {"class_path": "metrics.of_region.OfRegion", "init_args": {"metric": "metrics.lpips.LPIPS"}}
    assert prepare(config(metrics={"lpips_missing": inside})) == 0
    assert "of metrics.lpips_missing.metric" in capsys.readouterr().out
    assert (published / "weights" / "alexnet-owt-7be5be79.pth").exists()


def test_a_data_set_that_cannot_be_had(published, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("datamodules.mnist.MNIST._download", lambda self: (_ for _ in ()).throw(OSError("no network")))
    plain = {"features": None, "metrics": {}}
    mnist = {"class_path": "datamodules.mnist.MNIST", "init_args": {"data_dir": str(tmp_path / "data")}}
    assert prepare(config(data=mnist, **plain)) == 1
    printed = capsys.readouterr().out
    assert "fetching  data set MNIST" in printed and "the download failed (no network)" in printed
    mnist["init_args"]["download"] = False
    assert prepare(config(data=mnist, **plain)) == 1
    assert "data.init_args.download is false" in capsys.readouterr().out


def test_from_the_command_line(published, monkeypatch, capsys, tmp_path):
    """A generation too; the exit code is the answer, and nothing is written."""
    file = tmp_path / "generation.yaml"
    file.write_text(
        "data: datamodules.digits.Digits\npriors: {default: gone.ckpt}\n"
        "samplers: {ddim: {class_path: diffusion.samplers.ddim.DDIM, steps: 5}}\n"
    )
    monkeypatch.setattr(
        "sys.argv", ["evaluate.py", "--config", str(file), "--prepare", "--output", str(tmp_path / "out")]
    )
    assert evaluate.main() == 1
    printed = capsys.readouterr().out
    assert (
        "train images, " in printed and "inception-2015-12-05.pt" in printed and "prior 'default', gone.ckpt" in printed
    )
    assert not (tmp_path / "out").exists() and len(needs(read_generation_config([file]))) == 3
    broken = config(metrics={"a": "metrics.psnr.PSN"}, features=None)
    with pytest.raises(UserError, match=r"metrics\.a"):
        prepare(broken)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"class_path": "metrics.lpips.LPIPS", "init_args": {"net": "resnet"}}, r"net must be .*, got 'resnet'"),
        (
            {"class_path": "metrics.pairwise_perceptual.PairwiseLPIPS", "init_args": {"net": ["alex"]}},
            r"net must be .*, got '\['alex'\]'",
        ),
        (
            {"class_path": "metrics.fid.FID", "init_args": {"statistics": "cifar"}},
            "'cifar' are not called as clean-fid",
        ),
        ({"class_path": "metrics.fid.FID", "init_args": {"statistics": 5}}, "'5' are not called as"),
        ({"class_path": "metrics.kid.KID", "init_args": {}}, "compares features: give 'features'"),
        (
            {
                "class_path": "metrics.of_region.SamplesOfRegion",
                "init_args": {"metric": "metrics.vendi.VendiOfSamples"},
            },
            r"\.metric compares features: give 'features'",
        ),
    ],
)
def test_options_that_no_evaluation_takes_are_one_sentence(metric, message, published):
    with pytest.raises(UserError, match=rf"^metrics\.a\b.*{message}") as error:
        prepare(config(metrics={"a": metric}, features=None))
    assert "\n" not in str(error.value)


def test_after_it_the_evaluation_finds_what_was_fetched(published):
    """The places of --prepare are those of the metrics: the published bytes are no network, which is said in words."""
    assert prepare(config()) == 0
    assert lpips.LPIPS().distance.file.find() == Path(published / "weights" / "alexnet-owt-7be5be79.pth")
    with pytest.raises(UserError, match="not a TorchScript file"):
        InceptionFeatures()
    assert torch.hub.get_dir()
