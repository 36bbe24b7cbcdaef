"""Sharded training beside DDP: the same weights, averages, optimiser and file, on two processes and on one."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import (
    ROOT,
    call,
    environment,
    one_sentence,
    tiny_config,
    tiny_digits,
    tiny_module,
    tiny_trainer,
    write_config,
    write_tiny_prior,
)
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from callbacks.sample_grid import SampleGrid
from checkpoints.load import load_prior
from common.errors import UserError
from common.sharded import gathered, is_sharded, local, parted, whole
from degradations.severity.gaussian_mask import GaussianMask
from lightning_modules.cold_diffusion import ColdDiffusion
from lightning_modules.lora_fine_tuning import LoRAFineTuning
from networks.unet import UNet
from training.sharded_strategy import Sharded, check_strategy

# All trainings in one pair of processes, whose start is what costs.
SCRIPT = """
import common.late_torchmetrics  # noqa: F401
import sys
from pathlib import Path
import yaml
from lightning.pytorch.strategies import DDPStrategy
from helpers import ROOT, tiny_digits, tiny_module
from training import sharded_strategy  # noqa: F401  (gives the name)
from test_sharded_strategy import tiny_cold, trainer_in

def strategy(name):
    return yaml.safe_load((ROOT / "configs" / "cluster" / f"{name}.yaml").read_text())["trainer"]["strategy"]

def fit(folder, strategy, ckpt_path=None, model=None, **options):
    trainer = trainer_in(Path(sys.argv[1]) / folder, devices=2, strategy=strategy, **options)
    model = model or tiny_module(channels_last=True)
    trainer.fit(model, datamodule=tiny_digits(validation=21), ckpt_path=ckpt_path)

def cold():
    for name in ("ddp", "fsdp"):
        fit(f"cold {name}", strategy(name) if name == "fsdp" else "ddp", model=tiny_cold(), max_steps=4)

def denoisers():
    fit("ddp", DDPStrategy(**strategy("ddp")["init_args"]))
    for name in ("plain", "static"):
        graph = DDPStrategy(**strategy("ddp")["init_args"], static_graph=name == "static")
        fit(name, graph, accumulate_grad_batches=1, max_steps=2, limit_val_batches=0)
    fit("sharded", strategy("fsdp"))
    fit("again", strategy("fsdp"), Path(sys.argv[1]) / "sharded/checkpoints/step_0000003.ckpt")

if __name__ == "__main__":
    {"cold": cold, "denoisers": denoisers}[sys.argv[2]]()
"""


def trainer_in(folder: Path, **options):
    """6 steps of two batches, validated at 2, 4, 6; saved at 3 and 6; clipped."""
    callbacks = [
        EMA(half_life_images=100, ramp=None),
        FiniteLoss(),
        Health(),
        SampleGrid(count=4),
        RunCheckpoint(every_n_steps=3, keep_every_n_steps=3),
    ]
    fixed = {"max_steps": 6, "accumulate_grad_batches": 2, "val_check_interval": 4, "gradient_clip_val": 0.5}
    fixed |= {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    return tiny_trainer(folder, *callbacks, **{**fixed, **options})


def tiny_cold() -> ColdDiffusion:
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    return ColdDiffusion(network=network, family=GaussianMask(steps=6), data_shape=[1, 8, 8], warmup_steps=1)


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def tensors(content: dict) -> dict[str, torch.Tensor]:
    """Weights, averages and the optimiser's state by name."""
    (optimizer,) = content["optimizer_states"]
    return {
        **content["state_dict"],
        **{f"ema.{n}": v for n, v in content["ema"]["weights"].items()},
        **{f"optimizer.{k}.{n}": v for k, values in optimizer["state"].items() for n, v in values.items()},
    }


def close(here: dict, there: dict, atol: float) -> None:
    a, b = tensors(here), tensors(there)
    assert list(a) == list(b)
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=atol, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


def run_script(folder: Path, what: str) -> None:
    script = folder / "run.py"
    script.write_text(SCRIPT)
    env = {**environment(), "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))}
    command = [sys.executable, str(script), str(folder), what]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=2400)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]


@pytest.mark.slow
def test_sharded_training_equals_ddp_and_one_process_goes_on(tmp_path):
    run_script(tmp_path, "denoisers")
    ddp, sharded = last(tmp_path / "ddp"), last(tmp_path / "sharded")
    close(ddp, sharded, atol=1e-5)
    assert ddp["optimizer_states"][0]["param_groups"] == sharded["optimizer_states"][0]["param_groups"]
    for key in ("prior", "images_seen", "global_step", "lr_schedulers", "loops"):
        assert ddp[key] == sharded[key], key
    close(sharded, last(tmp_path / "again"), atol=0)
    close(last(tmp_path / "plain"), last(tmp_path / "static"), atol=0)
    for folder in ("ddp", "sharded"):
        assert len(list((tmp_path / folder / "samples").iterdir())) == 3

    one = trainer_in(tmp_path / "one")
    saved = tmp_path / "sharded" / "checkpoints" / "step_0000003.ckpt"
    one.fit(tiny_module(), datamodule=tiny_digits(validation=21), ckpt_path=saved)
    close(sharded, last(tmp_path / "one"), atol=1e-5)

    prior = load_prior(tmp_path / "sharded" / "checkpoints" / "last.ckpt")
    assert type(prior.denoiser.network).__name__ == "UNet" and not is_sharded(prior.denoiser.network)
    result = call(
        "-m", "checkpoints.export", tmp_path / "sharded/checkpoints/last.ckpt", tmp_path / "prior.safetensors"
    )
    assert result.returncode == 0, result.stderr
    released = load_prior(tmp_path / "prior.safetensors").denoiser.network.state_dict()
    for name, value in prior.denoiser.network.state_dict().items():
        torch.testing.assert_close(released[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_a_restorer_of_cold_diffusion_too(tmp_path):
    run_script(tmp_path, "cold")
    close(last(tmp_path / "cold ddp"), last(tmp_path / "cold fsdp"), atol=1e-5)


def test_an_adapter_is_refused(tmp_path):
    """What is written of it at the end is put together by the first process alone."""
    path = write_tiny_prior(tmp_path / "prior.safetensors")
    model = LoRAFineTuning(prior=str(path), rank=1)
    trainer = SimpleNamespace(strategy=Sharded(), precision="32-true", accumulate_grad_batches=1)
    with pytest.raises(UserError, match=r"LoRAFineTuning trains an adapter.*leave it out"):
        check_strategy(model, trainer)


@pytest.mark.parametrize(
    ("strategy", "options", "words"),
    [
        (Sharded, {"compile": True}, "model.compile is true"),
        (Sharded, {"precision": "16-mixed"}, "give bf16-mixed or 32-true"),
        (ModelParallelStrategy, {}, "ModelParallelStrategy knows nothing of .*: give sharded"),
        (FSDPStrategy, {}, "FSDPStrategy knows nothing of .*: give sharded"),
        (partial(DDPStrategy, static_graph=True), {"accumulate_grad_batches": 2}, "leave out static_graph"),
    ],
    ids=["compiled", "float16", "of Lightning", "the older of Lightning", "static graph"],
)
def test_what_a_strategy_cannot_do_is_refused(strategy, options, words):
    model = tiny_module(compile=options.pop("compile", False))
    trainer = SimpleNamespace(strategy=strategy(), **{"precision": "32-true", "accumulate_grad_batches": 1, **options})
    with pytest.raises(UserError, match=words):
        check_strategy(model, trainer)


def test_the_command_line_refuses_it_before_a_run_folder_is_made(tmp_path):
    config, run = write_config(tmp_path, tiny_config()), tmp_path / "run"
    fragments = [word for name in ("tf32", "fsdp") for word in ("--config", ROOT / f"configs/cluster/{name}.yaml")]
    result = call("train.py", "fit", "--config", config, *fragments, "--run", run, "--model.compile", "true")
    one_sentence(result, "model.compile")
    assert not run.exists()


def test_what_is_not_sharded_is_left_as_it_is():
    network, tensor = tiny_module().network, torch.randn(3)
    assert not is_sharded(network) and not is_sharded(tensor)
    assert local(tensor) is tensor and whole(tensor) is tensor and whole(tensor, like=tensor) is tensor
    assert torch.equal(parted(tensor, like=tensor), tensor) and parted(tensor, like=tensor) is not tensor
    with gathered(network):
        assert type(network).__name__ == "UNet"
