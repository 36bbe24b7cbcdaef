"""Options of the trainer that can be judged by themselves, before a run folder, a network or a line in W&B is made."""

import math
import sys
from typing import Any

import torch

from common.config_place import place
from common.errors import UserError, nearest
from training.devices import chosen_devices

LARGEST_SEED = 2**32 - 1  # what NumPy's generator takes

#: option of the trainer -> (least value, what stands below it); null is always left to Lightning.
LEAST = {
    "max_steps": (1, "or -1 for no limit"),
    "max_epochs": (1, "or -1 for no limit"),
    "min_steps": (1, ""),
    "min_epochs": (1, ""),
    "num_nodes": (1, ""),
    "accumulate_grad_batches": (1, ""),
    "log_every_n_steps": (1, ""),
    "check_val_every_n_epoch": (1, ""),
    "limit_train_batches": (0, ""),
    "limit_val_batches": (0, ""),
    "limit_test_batches": (0, ""),
    "limit_predict_batches": (0, ""),
    "num_sanity_val_steps": (0, "or -1 for all of them"),
    "gradient_clip_val": (0, ""),
}


def check_seeds(options: Any) -> None:
    """UserError where --seed or --seed_everything is no seed."""
    for name in ("seed", "seed_everything"):
        value = options.get(name)
        if value is not None and not isinstance(value, bool) and not 0 <= value <= LARGEST_SEED:
            raise UserError(f"--{name} must be between 0 and {LARGEST_SEED}, got {value}: give another number")


def check_numbers(options: Any, prefix: str = "") -> None:
    """UserError for a number that is NaN anywhere in a configuration, whatever class it is for."""
    items: Any = ()
    if isinstance(options, (list, tuple)):
        items = enumerate(options)
    elif hasattr(options, "items"):
        items = options.items()
    for key, value in items:
        name = f"{prefix}.{key}".lstrip(".").replace(".init_args", "")
        if isinstance(value, float) and math.isnan(value):
            outer, _, last = name.partition(".")
            raise UserError(
                f"{place(outer, last.rpartition('.')[2], sys.argv[1:])} is NaN, which is not a number: give one"
            )
        check_numbers(value, name)


def check_trainer_options(trainer: Any, *, here: bool = True) -> None:
    """Ranges, devices and precision.

    Args:
        trainer: the parsed options of the trainer.
        here: it will run on this machine; --prepare looks at what other ones will run.

    Raises:
        UserError: a number below its least one, an accelerator that is not in this machine, more devices than it has.
    """
    for name, (least, otherwise) in LEAST.items():
        value = trainer.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value >= least:
            continue
        if value != -1 or not otherwise:
            also = f" {otherwise}" if otherwise else ""
            raise UserError(f"--trainer.{name} must be at least {least}{also}, got {value}")
    interval = trainer.get("val_check_interval")
    if isinstance(interval, (int, float)) and (
        interval <= 0 or (isinstance(interval, float) and (interval > 1 or not math.isfinite(interval)))
    ):
        raise UserError(
            "--trainer.val_check_interval must be a number of steps of at least 1, or a share of an epoch above 0 and"
            f" at most 1.0, got {interval}"
        )
    _check_devices(trainer, here=here)


def without_summary(trainer: Any) -> bool:
    """Lightning's table of the model only where it is asked for: it counts operations that it does not know as none
    ("Total FLOPs: 0"). True where the run is to say its size itself.
    """
    asked = trainer.get("enable_model_summary")
    trainer["enable_model_summary"] = bool(asked)
    return asked is None


def _check_devices(trainer: Any, *, here: bool) -> None:
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    if not isinstance(accelerator, str):
        return  # an object of another library knows by itself
    known = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
    if accelerator not in known:
        raise UserError(
            f"--trainer.accelerator: there is no '{accelerator}'{nearest(accelerator, known)}; there are"
            f" {', '.join(known)}"
        )
    chosen = chosen_devices(devices)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if here and ((accelerator == "cuda" and not cuda) or (accelerator == "mps" and not mps)):
        raise UserError(f"--trainer.accelerator {accelerator}: this machine has none; give cpu, or auto")
    if here and accelerator == "gpu" and not (cuda or mps):
        raise UserError("--trainer.accelerator gpu: this machine has no GPU that torch can use; give cpu, or auto")
    on_cpu = accelerator == "cpu" or (here and accelerator == "auto" and not cuda and not mps)
    if on_cpu and not isinstance(chosen, int) and str(devices) != "auto":
        raise UserError(
            f"--trainer.devices {devices} chooses among devices, and a CPU is one: give a number of processes, as 2, or"
            " auto"
        )
    if on_cpu and str(trainer.get("precision")) in ("16", "16-mixed") and not trainer.get("plugins"):
        raise UserError(
            f"--trainer.precision {trainer.get('precision')} is for GPUs, and a CPU would be given bfloat16 in its"
            " place: give 32-true, or bf16-mixed"
        )
    if here and cuda and accelerator in ("auto", "gpu", "cuda"):
        there = torch.cuda.device_count()
        if max(chosen) >= there if isinstance(chosen, list) else (chosen or 0) > there:
            raise UserError(f"--trainer.devices {devices}: there are {there} CUDA devices here, numbered from 0")


def apply_seed(options: Any) -> None:
    """--seed in place of the three options that it stands for: one number of a sweep."""
    if options.get("seed") is not None:
        options.seed_everything = options.model.init_args.seed = options.data.init_args.seed = options.seed
        options.seed = None
