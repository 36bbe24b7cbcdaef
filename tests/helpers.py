"""Small things that several tests need: a tiny training config and a way to call the entry points as a user does."""

import common.late_torchmetrics  # noqa: F401, I001  (before Lightning: spawned processes have no conftest.py)

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from in_process import run_here

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from datamodules.digits import Digits
from diffusion.denoiser import DiscreteDenoiser
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.ddpm import DDPM
from networks.unet import UNet

ROOT = Path(__file__).resolve().parent.parent


def tiny_config(**trainer: object) -> dict:
    """Embedded digits, a network of a few thousand parameters, no progress bar, no W&B."""
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_modules.ddpm.DDPM",
            "init_args": {
                "data_shape": [1, 8, 8],
                "network": {
                    "class_path": "networks.unet.UNet",
                    "init_args": {
                        "in_channels": 1,
                        "channels": 8,
                        "multipliers": [1, 2],
                        "blocks": 1,
                        "attention": [],
                        "groups": 4,
                        "dropout": 0.1,
                    },
                },
                "schedule": {"class_path": "diffusion.schedules.Cosine"},
                "prediction": "v",
                "weighting": {"class_path": "diffusion.weighting.target.Target"},
                "warmup_steps": 2,
                "sampler": {"class_path": "diffusion.samplers.ddim.DDIM"},
                "sampling_steps": 3,
            },
        },
        "data": {
            "class_path": "datamodules.digits.Digits",
            "init_args": {"batch_size": 16, "limit": 96, "validation": 21},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 8,
            "check_val_every_n_epoch": None,
            "val_check_interval": 4,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "gradient_clip_val": 1.0,
            **trainer,
        },
        "samples": {"count": 4},
        "checkpoint": {"every_n_steps": 4},
        "wandb": {"mode": "disabled"},
    }


def write_config(folder: Path, config: dict) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def environment() -> dict[str, str]:
    # Without the address of W&B's helper process that a test in this process may have started: a run whose id it still
    # holds would be refused.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_SERVICE")}
    return {
        **inherited,
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": os.environ.get("WANDB_MODE", "offline"),
        "PYTHONUNBUFFERED": "1",
    }


def call(*args: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """python ARGS inside this process (see in_process.py), output captured: saves the seconds of a start."""
    return run_here([str(a) for a in args], cwd=cwd, env=env or environment())


def call_process(
    *args: object, cwd: Path = ROOT, timeout: float = 240, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """python ARGS in a process of its own, output captured: what starts others, or is asked how a process ends."""
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=env or environment())


def call_and_stop(number: signal.Signals, *args: object, ready: Path, timeout: float = 240) -> int:
    """python ARGS, sent the signal as soon as the file `ready` exists; the exit code."""
    process = subprocess.Popen(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + timeout
    try:
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{ready} did not appear: {process.communicate(timeout=10)[0]}")
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode


def one_sentence(result: subprocess.CompletedProcess, *words: str) -> None:
    """The call ended as a user's mistake should: exit code 2, one `error:` line with these words, no stack trace."""
    assert result.returncode == 2, (result.returncode, result.stderr[-2000:])
    assert "Traceback" not in result.stderr, result.stderr[-2000:]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr[-2000:]
    for word in words:
        assert word in lines[0], (word, lines[0])


def tiny_denoiser(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> DiscreteDenoiser:
    """A random, untrained denoiser whose output is not zero."""
    generator = torch.random.fork_rng()
    with generator:
        torch.manual_seed(seed)
        network = UNet(in_channels=shape[0], channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return DiscreteDenoiser(network=network, schedule=Cosine(), prediction="v", data_shape=shape).eval()


def write_tiny_prior(path: Path, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Path:
    """A released prior file of :func:`tiny_denoiser`."""
    denoiser = tiny_denoiser(shape, seed)
    write_safetensors(path, denoiser.network, describe_prior(denoiser, data="Digits"), dtype=torch.float32)
    return path


def tiny_module(**options: object) -> DDPM:
    """A DDPM on 8x8 images whose initial weights are always the same."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    fixed = {
        "schedule": Cosine(),
        "data_shape": [1, 8, 8],
        "sampler": DDIM(),
        "prediction": "v",
        "sampling_steps": 2,
        "warmup_steps": 1,
    }
    return DDPM(network=network, **{**fixed, **options})


def tiny_trainer(folder: Path, *callbacks: pl.Callback, **options: object) -> pl.Trainer:
    """A quiet trainer of 4 steps that validates after every second one."""
    fixed = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": None,
        "val_check_interval": 2,
        "max_steps": 4,
    }
    return pl.Trainer(callbacks=list(callbacks), **{**fixed, **options})


def tiny_digits(**options: object) -> Digits:
    return Digits(**{"batch_size": 16, "limit": 64, "validation": 20, "predict_images": 4, **options})
