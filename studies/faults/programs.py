"""The programs that faults are tried on: their commands, tiny, and what two runs of one have to agree in."""

import csv
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from common.files import write_atomically
from common.pictures import as_picture, png_bytes

ROOT = Path(__file__).resolve().parents[2]
STEPS, INTERVAL = 40, 10  # of training; between two checkpoints and two validations
SWEEP_STEPS = 20
PICTURES, SIDE = 120, 28

MEASURED = ("throughput/", "memory/")
# OUTPUT/inputs, and OUTPUT/work/CASE or OUTPUT/twins/PROGRAM
INPUTS = "inputs"
Result = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Program:
    """One of the entry points.

    command: its words, given the folder of a case. output: below that folder, what it writes. result: what must be
    equal after a fault, by kind (weights, rows, log, pictures), read from that folder. progress: the file that grows
    while it works, below `output`, and the lines of its head.
    """

    name: str
    command: Callable[[Path], list[str]]
    output: str
    result: Callable[[Path], Result]
    progress: str | None = None

    def environment(self, folder: Path) -> dict[str, str]:
        """One thread, no W&B server, the pictures of the case, or those that all cases share."""
        own = folder / "data"
        data = own if own.exists() else inputs_of(folder) / "data"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "SLURM_"))}
        fixed = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "PYTHONUNBUFFERED": "1", "DATA_DIR": str(data)}
        return {**inherited, **fixed}


def inputs_of(folder: Path) -> Path:
    """The inputs of a case, given its folder."""
    return folder.parents[1] / INPUTS


def write_inputs(folder: Path) -> None:
    """Pictures of digits, 28x28, and the configurations."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixels = torch.from_numpy(digits.images[:PICTURES]).float()[:, None] / 8 - 1
    large = torch.nn.functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear").clamp(-1, 1)
    for k, picture in enumerate(large):
        write_atomically(folder / f"data/pictures/{k:03d}.png", png_bytes(as_picture(picture)))
    noise = torch.randn(large[0].shape, generator=torch.Generator().manual_seed(0))
    write_atomically(folder / "damaged.png", png_bytes(as_picture(large[0] + 0.2 * noise)))
    write_atomically(folder / "train.yaml", yaml.safe_dump(_training(), sort_keys=False))
    write_atomically(folder / "sweep.yaml", yaml.safe_dump(_sweep(folder), sort_keys=False))
    write_atomically(folder / "evaluate.yaml", yaml.safe_dump(_evaluation(folder), sort_keys=False))


def _data(**options: Any) -> dict[str, Any]:
    fixed = {"folder": "pictures", "mode": "grey", "size": SIDE}
    return {"class_path": "datamodules.image_folder.ImageFolder", "init_args": {**fixed, **options}}


def _training() -> dict[str, Any]:
    network = {"in_channels": 1, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_modules.ddpm.DDPM",
            "init_args": {
                "data_shape": [1, SIDE, SIDE],
                "network": {"class_path": "networks.unet.UNet", "init_args": {**network, "dropout": 0.1}},
                "schedule": {"class_path": "diffusion.schedules.Cosine"},
                "prediction": "v",
                "warmup_steps": 5,
                "sampler": {"class_path": "diffusion.samplers.ddim.DDIM"},
                "sampling_steps": 5,
            },
        },
        "data": _data(batch_size=8, validation=24),
        "trainer": {
            "accelerator": "cpu",
            "max_steps": STEPS,
            "check_val_every_n_epoch": None,
            "val_check_interval": INTERVAL,
            "log_every_n_steps": 1,
            "gradient_clip_val": 1.0,
            "enable_model_summary": False,
        },
        "samples": {"count": 4},
        "checkpoint": {"every_n_steps": INTERVAL},
        "preemption": {"every_n_steps": 5},
        "wandb": {"mode": "disabled"},
    }


def _sweep(folder: Path) -> dict[str, Any]:
    words = ["train.py", "fit", "--config", str(folder / "train.yaml"), f"--trainer.max_steps={SWEEP_STEPS}"]
    return {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "val/loss", "goal": "minimize"},
        "parameters": {"model.prediction": {"values": ["v", "epsilon"]}},
        "command": ["${env}", "python", *words, "${args}"],
    }


def _evaluation(folder: Path) -> dict[str, Any]:
    return {
        "data": _data(test_images=30),
        "split": "test",
        "batch_size": 2,
        "priors": {"default": {"path": str(folder / "prior.ckpt")}},
        "tasks": {
            "box": {"degradation": "degradations.box_mask.BoxMask", "noise": {"sigma_255": 6}},
        },
        "methods": {
            "pseudo_inverse": "restoration.pseudo_inverse.PseudoInverse",
            "dps": {"class_path": "restoration.dps.DPS", "init_args": {"steps": 20}},
        },
    }


# What has to be equal.


def training_result(run: Path) -> Result:
    """Of a run folder."""
    path = run / "checkpoints/last.ckpt"
    content = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}
    weights = {name: _digest(t) for name, t in content.get("state_dict", {}).items()}
    weights |= {f"average {name}": _digest(t) for name, t in content.get("ema", {}).get("weights", {}).items()}
    return {
        "weights": {**weights, "step": content.get("global_step")},
        "log": {"metrics.csv": _rows(run / "metrics.csv")},
        "pictures": _files(run / "samples", "*.png"),
    }


def evaluation_result(folder: Path) -> Result:
    """Rows, sets and table without the seconds; the restored pictures."""
    rows = {name: _rows(folder / name) for name in ("rows.csv", "sets.csv", "table.csv")}
    return {"rows": rows, "pictures": _files(folder / "restored", "**/*.png")}


def restoration_result(folder: Path) -> Result:
    return {"rows": {"curve.csv": _rows(folder / "curve.csv")}, "pictures": _files(folder, "*.png")}


def sweep_result(folder: Path) -> Result:
    """Every run of it."""
    found: Result = {"weights": {}, "log": {}, "pictures": {}}
    for run in sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith(".")):
        for kind, values in training_result(run).items():
            found[kind] |= {f"{run.name}: {name}": value for name, value in values.items()}
    return found


def _rows(path: Path) -> list[dict[str, str]] | None:
    """Without what says how fast the machine was, and how much memory the process had."""
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name != "seconds" and not name.startswith(MEASURED)}
            for row in csv.DictReader(file)
        ]


def _files(folder: Path, pattern: str) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob(pattern)}


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def programs(inputs: Path) -> dict[str, Program]:
    """By name, in the order in which their undisturbed twins are made: evaluations use the prior of the first."""
    train = ["train.py", "fit", "--config", str(inputs / "train.yaml")]
    several = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    restoration = ["restore.py", str(inputs / "damaged.png"), "--method=dip", "--method.iterations=150"]
    log = "metrics.csv"
    found = [
        Program("train", lambda at: [*train, f"--run={at}/run"], "run", lambda at: training_result(at / "run"), log),
        Program(
            "train, 2 processes",
            lambda at: [*train, f"--run={at}/run", *several],
            "run",
            lambda at: training_result(at / "run"),
            log,
        ),
        Program(
            "evaluate",
            lambda at: ["evaluate.py", f"--config={inputs}/evaluate.yaml", f"--output={at}/out"],
            "out",
            lambda at: evaluation_result(at / "out"),
            "rows.csv",
        ),
        Program(
            "restore",
            lambda at: [*restoration, f"--output={at}/out"],
            "out",
            lambda at: restoration_result(at / "out"),
        ),
        Program(
            "sweep",
            lambda at: ["sweep.py", "run", str(inputs / "sweep.yaml"), f"--output={at}/runs", "--threads=1"],
            "runs",
            lambda at: sweep_result(at / "runs"),
        ),
    ]
    return {program.name: program for program in found}


def whole_command(program: Program, folder: Path) -> list[str]:
    return [sys.executable, *program.command(folder)]
