"""Every shipped training config is executed: parsed by the real command line, built, one tiny step taken on made-up
images of its shape.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT
from PIL import Image

from checkpoints.cold_restorer import build_cold_restorer, describe_cold_restorer
from checkpoints.prior import build_denoiser, describe_prior
from common.batch import Batch
from common.build import build
from common.errors import UserError
from datamodules.base import ImageDataModule
from datamodules.store import MemoryStore, everything
from degradations.severity.animorph import Animorph
from networks.untrained.base import Architecture
from restoration.conditioning_bank import ConditioningBank, ConditioningImages
from restoration.deep_image_prior.settings import settings_for
from training.cli import TrainCLI

ALL = sorted([*(ROOT / "configs/train").glob("*.yaml"), ROOT / "configs/demo/train.yaml"])
# those: test_fine_tuning_configs.py
TRAIN = [p for p in ALL if not p.stem.startswith(("classifier_", "dip_")) and "\n    prior: " not in p.read_text()]
DIP = [p for p in ALL if p.stem.startswith("dip_")]


@pytest.fixture(autouse=True)
def other_images(monkeypatch):
    """Made-up images in place of the other data set that animorphosis blends into."""

    def others(self, shape):
        generator = torch.Generator().manual_seed(0)
        return everything(MemoryStore(torch.randint(256, (5, *shape), dtype=torch.uint8, generator=generator)))

    monkeypatch.setattr(Animorph, "_others", others)


@pytest.fixture(autouse=True)
def made_up_conditioning_images(monkeypatch):
    """In place of a bank, which takes minutes."""

    def conditioning_images(self, index, device="cpu"):
        image = torch.rand(len(index), 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return (
            ConditioningImages(image)
            if self.schedule is None
            else ConditioningImages(image, *self.diffusion(index.tolist(), (1, 28, 28)))
        )

    monkeypatch.setattr(ConditioningBank, "conditioning_images", conditioning_images)


@pytest.mark.parametrize("path", TRAIN, ids=lambda p: p.stem if p.parent.name == "train" else "demo")
def test_a_training_config_is_built_and_steps(path: Path, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sys.argv",
        ["train.py", "fit", "--config", str(path), "--run", str(tmp_path / "run"), "--wandb.mode", "disabled"],
    )
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    # The published networks have tens of millions of parameters: a tenth of their width runs the same code.
    content = yaml.safe_load(path.read_text())
    network = content["model"]["init_args"]["network"]["init_args"]
    network["channels"] = min(network["channels"], 16)
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(
        "sys.argv",
        ["train.py", "fit", "--config", str(narrow), "--run", str(tmp_path / "run"), "--wandb.mode", "disabled"],
    )
    cli = TrainCLI()
    model, data = cli.model, cli.datamodule
    assert tuple(data.shape) == tuple(model.data_shape)
    image = torch.rand(2, *model.data_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = Batch(image, torch.arange(2), torch.tensor([-1, 3]))
    optimizer = model.configure_optimizers()["optimizer"]
    model.trainer = cli.trainer
    loss = model.losses(batch, torch.Generator().manual_seed(1)).mean()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = model.losses(batch, torch.Generator().manual_seed(2))
    assert torch.isfinite(loss) and after.shape == (2,) and bool(after.isfinite().all())
    # What a checkpoint would say of it builds it again.
    for description in model.descriptions("data").values():
        spec = description["network"]
        assert build(spec, torch.nn.Module, where=path.name, project_only=True).spec == spec
        if description.get("kind") == "denoiser":
            again = build_denoiser(description, where=path.name)
            assert describe_prior(again, data="data", training=description["training"]) == description
            assert type(again) is type(model.denoiser)
        if description.get("kind") == "restorer":
            restorer, start = build_cold_restorer(description, where=path.name)
            assert (
                describe_cold_restorer(restorer, data="data", start=start, training=description["training"])
                == description
            )
    assert isinstance(data, ImageDataModule)


@pytest.mark.parametrize("path", DIP, ids=lambda p: p.stem)
def test_a_deep_image_prior_makes_a_step(path: Path, monkeypatch, tmp_path):
    """The whole run of one iteration, the published network on a made-up picture of the least size that it takes, in
    place of the one the config names.
    """
    options = yaml.safe_load(path.read_text())["data"]["init_args"]
    side = 192 if "large_hole" in path.stem else 64
    generator = np.random.default_rng(0)
    for option in ("path", "mask"):
        if option in options:
            picture = tmp_path / "data" / options[option]
            picture.parent.mkdir(parents=True, exist_ok=True)
            grey = option == "mask" or "barbara" in picture.name
            pixels = generator.integers(256, size=(side, side) if grey else (side, side, 3), dtype=np.uint8)
            Image.fromarray(np.where(pixels > 60, 255, 0).astype(np.uint8) if option == "mask" else pixels).save(
                picture
            )
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    command = [
        "train.py",
        "fit",
        "--config",
        str(path),
        "--run",
        str(tmp_path / "run"),
        "--wandb.mode",
        "disabled",
        "--trainer.max_steps",
        "1",
    ]
    monkeypatch.setattr(
        "sys.argv",
        [*command, "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1", "--health.enabled", "false"],
    )
    model = TrainCLI().model
    fit, given = model.groups[0].fit, yaml.safe_load(path.read_text())["model"]["init_args"]
    assert fit.iteration == 1 and bool(fit.answer.isfinite().all())
    if "digits" not in path.stem:
        # What the file spells out is what the task stands for: the published settings; more jitter for more noise.
        published = settings_for(
            fit.measurement.operator, given["task"], build(given["architecture"], Architecture, where="the config")
        )
        jitter = 1 / 20 if path.stem == "dip_denoising_50" else published.jitter
        # A criterion that fits twice gets the published iterations for each fit, as restore.py gives them.
        fits = 1 if "stopping" in given else 2
        assert fit.settings == replace(
            published, jitter=jitter, iterations=fits * published.iterations, architecture=fit.settings.architecture
        )
        default = type(model.method)(
            task=given["task"], stopping=model.method.stopping, architecture=model.method.architecture
        )
        assert fit.settings.iterations == default.settings(fit.measurement.operator, fit.measurement.noise).iterations
    assert (tmp_path / "run/restored/pictures.csv").is_file() and (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_data_that_are_missing_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(
        "sys.argv",
        [
            "train.py",
            "fit",
            "--config",
            str(ROOT / "configs/train/dip_denoising_25.yaml"),
            "--run",
            str(tmp_path / "run"),
        ],
    )
    with pytest.raises(UserError, match=r"no file or folder at .*F16_GT.png.*set DATA_DIR") as error:
        TrainCLI()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("ddpm_mnist", ["--model.guidance_scale", "2"], "guidance_scale=2.0 needs labels"),
        (
            "ddpm_mnist_learned_variance",
            ["--model.network.out_channels", "1"],
            "learned_range.*needs 2 output channels",
        ),
        ("ddpm_mnist_edm", ["--model.schedule.init_args.sigma_max", ".inf"], "must be finite"),
        ("ddpm_mnist_zero_snr", ["--model.prediction", "epsilon"], "pure noise"),
        ("ddpm_mnist_zero_snr", ["--model.schedule.init_args.schedule.init_args.steps", "9"], "use more steps"),
        ("ddpm_mnist", ["--model.schedule", "diffusion.edm.LogNormal"], "'v' needs a schedule"),
        ("ddpm_mnist_flow", ["--model.schedule", "diffusion.schedules.Cosine"], "'velocity' is trained on a continuum"),
        ("ddpm_mnist_flow", ["--model.schedule.init_args.t_max", "1"], "infinite, take 0.999"),
        ("ddpm_mnist_flow", ["--model.weighting", "diffusion.weighting.min_snr.MinSNR"], "MinSNR falls to 0"),
        ("ddpm_mnist", ["--model.weighting", "p3"], "weighting must be a class of"),
    ],
)
def test_contradictory_options_are_one_sentence(name, options, match, monkeypatch, tmp_path):
    command = [
        "train.py",
        "fit",
        "--config",
        str(ROOT / f"configs/train/{name}.yaml"),
        "--run",
        str(tmp_path / "run"),
        "--wandb.mode",
        "disabled",
        *options,
    ]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(UserError, match=match) as error:
        TrainCLI()
    assert "\n" not in str(error.value)


def test_the_sizes_that_the_configs_promise():
    """35.7 M parameters for CIFAR-10 (Ho et al.); the released MNIST prior is under 5 MB in half precision."""
    sizes = {}
    for name in ("train/ddpm_cifar10", "train/ddpm_mnist", "demo/train"):
        spec = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())["model"]["init_args"]["network"]
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in build(spec, torch.nn.Module, where=name).parameters())
    assert sizes["train/ddpm_cifar10"] == 35_746_307
    assert 2 * sizes["train/ddpm_mnist"] < 4.9e6
    assert 0.1e6 < sizes["demo/train"] < 0.3e6
