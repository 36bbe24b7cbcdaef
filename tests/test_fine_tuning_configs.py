"""Every shipped config of fine-tuning is executed: parsed by the real command line, beside its prior or a tiny one of
the same shape, one step taken.
"""

import json

import pytest
import torch
import yaml
from helpers import ROOT, call, one_sentence, tiny_config, write_config, write_tiny_prior

from checkpoints.load import load_prior, prior_weights
from checkpoints.lora.files import read_adapter
from checkpoints.lora.merging import merged
from common.batch import Batch
from common.errors import UserError
from common.renamed import modernised
from sweeps.expand import read_sweep
from training.cli import TrainCLI

CONFIGS = sorted(p for p in (ROOT / "configs/train").glob("*.yaml") if "\n    prior: " in p.read_text())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_is_built_and_steps(path, monkeypatch, tmp_path):
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    options = ["--run", str(tmp_path / "run"), "--wandb.mode", "disabled"]
    if not yaml.safe_load(path.read_text())["model"]["init_args"]["prior"].startswith("assets/"):
        options += ["--model.prior", str(write_tiny_prior(tmp_path / "prior.safetensors", (3, 32, 32)))]
    if "for_" in path.stem:
        options += ["--model.rank", "2"] if path.stem.startswith("lora") else []
    monkeypatch.setattr("sys.argv", ["train.py", "fit", "--config", str(path), *options])
    monkeypatch.chdir(ROOT)
    cli = TrainCLI()
    model, data = cli.model, cli.datamodule
    assert tuple(data.shape) == tuple(model.data_shape)
    optimizer = model.configure_optimizers()["optimizer"]
    trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    if path.stem == "lora_mnist_to_fashion":
        assert trained == 155_136, "as its comment says"
    model.trainer = cli.trainer
    image = torch.rand(2, *model.data_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = Batch(image, torch.arange(2), torch.tensor([-1, -1]))
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    loss = model.losses(batch, torch.Generator().manual_seed(1)).mean()
    loss.backward()
    optimizer.step()
    moved = [n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])]
    assert torch.isfinite(loss) and moved and all(".lora_" in n for n in moved) == path.stem.startswith("lora")


@pytest.mark.parametrize("pair", ["mnist_to_fashion", "cifar10_to_faces_small"])
def test_the_three_ways_to_other_images_differ_in_nothing_else(pair):
    lora, full, scratch = (
        yaml.safe_load((ROOT / f"configs/train/{n}_{pair}.yaml").read_text()) for n in ("lora", "full", "scratch")
    )
    for key in (lora.keys() | full.keys() | scratch.keys()) - {"model"}:
        assert lora[key] == full[key] == scratch[key]
    description = load_prior(ROOT / lora["model"]["init_args"]["prior"]).description
    new = scratch["model"]["init_args"]
    assert all(description["network"]["init_args"][k] == v for k, v in new["network"]["init_args"].items())
    trained = modernised(description["training"], warn=False)["weighting"]
    trained = {k: v for k, v in trained.items() if v}  # options that are not there, or none
    assert (description["prediction"], description["schedule"]["class_path"], trained) == (
        new["prediction"],
        new["schedule"]["class_path"],
        new["weighting"],
    )


def test_the_sweep_gives_commands_that_the_parser_takes(monkeypatch, tmp_path):
    combinations = read_sweep(ROOT / "configs/sweeps/lora_rank_targets.yaml").combinations
    assert len(combinations) == 6
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.chdir(ROOT)
    words = next(
        c.words
        for c in combinations
        if any("qkv|mix)" in w and "conv" not in w for w in c.words) and "--model.rank=64" in c.words
    )
    start = next(i for i, w in enumerate(words) if w.endswith("train.py"))
    monkeypatch.setattr("sys.argv", [*words[start:], "--run", str(tmp_path / "run"), "--wandb.mode", "disabled"])
    settings = TrainCLI().model.settings
    assert settings.rank == 64 and settings.scale == 1 and all(n.endswith(("qkv", "mix")) for n in settings.layers)


def test_options_of_the_training_on_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.chdir(ROOT)
    noise = "{class_path: degradations.noise.GaussianNoise, init_args: {sigma_255: 3}}"
    options = [
        "--model.training.init_args.sampling_steps",
        "7",
        f"--model.training.init_args.noise={noise}",
        "--model.rank",
        "2",
    ]
    command = ["train.py", "fit", "--config", "configs/train/lora_mnist_for_inpainting.yaml", *options]
    monkeypatch.setattr("sys.argv", [*command, "--run", str(tmp_path / "run"), "--wandb.mode", "disabled"])
    inner = TrainCLI().model.inner
    assert (
        len(inner.sampling_sigmas) == 7 + 1
        and inner.noise.sigma == pytest.approx(3 / 127.5)
        and inner.degradation is not None
    )


def test_another_class_for_the_training_is_given_with_its_options(monkeypatch, tmp_path):
    """The parser keeps the entry as plain values, and cannot change its class by --model.training.class_path alone: it
    says what to write instead.
    """
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.chdir(ROOT)
    command = [
        "train.py",
        "fit",
        "--config",
        "configs/train/lora_mnist_to_fashion.yaml",
        "--run",
        str(tmp_path / "run"),
        "--wandb.mode",
        "disabled",
    ]
    monkeypatch.setattr("sys.argv", [*command, "--model.training.class_path", "lightning_modules.ddpm.DDPM"])
    with pytest.raises(
        UserError,
        match=(
            r"^--model\.training\.class_path cannot be given by itself.* --model\.training '\{class_path: CLASS,"
            r" init_args"
        ),
    ):
        TrainCLI()
    monkeypatch.setattr(
        "sys.argv",
        [*command, "--model.training", "{class_path: lightning_modules.ddpm.DDPM, init_args: {sampling_steps: 7}}"],
    )
    assert len(TrainCLI().model.inner.sampling_sigmas) == 7 + 1


@pytest.mark.slow
def test_from_the_command_line_to_an_adapter_and_back(tmp_path):
    """fit, a longer fit, predict, and the adapter that is left behind; another rank in the same folder is one
    sentence.
    """
    prior = write_tiny_prior(tmp_path / "prior.safetensors")
    config = tiny_config()
    training = {"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"sampling_steps": 2}}
    options = {"prior": str(prior), "training": training, "rank": 2, "targets": ["conv1", "conv2"], "warmup_steps": 2}
    config["model"] = {"class_path": "lightning_modules.lora_fine_tuning.LoRAFineTuning", "init_args": options}
    path, run = write_config(tmp_path, config), tmp_path / "run"
    fit = ("train.py", "fit", "--config", path, "--run", run)
    result = call(*fit)
    assert result.returncode == 0, result.stderr[-2000:]
    folder = run / "adapter"
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2
    result = call(*fit, "--trainer.max_steps", "12")
    assert result.returncode == 0 and "continuing" in result.stdout, result.stderr[-2000:]
    result = call(
        "train.py", "predict", "--config", path, "--run", run, "--num_images", "2", "--output", tmp_path / "images"
    )
    assert result.returncode == 0 and len(list((tmp_path / "images").glob("*.png"))) >= 2, result.stderr[-2000:]
    base, described = load_prior(prior).denoiser.network.state_dict(), prior_weights(run / "checkpoints/last.ckpt")
    written = merged(base, [(read_adapter(folder), 1.0)], where="it")
    assert written.keys() == described.keys() and all(torch.equal(v, described[n]) for n, v in written.items())
    one_sentence(call(*fit, "--model.rank", "3"), "rank")
