"""Priors of diffusers: a folder with a UNet2DModel and its scheduler, as google/ddpm-cifar10-32, from the disk or from
the hub.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints.foreign.base import ForeignPrior, digest_of
from checkpoints.foreign.diffusers_config import unet_from_diffusers
from checkpoints.foreign.diffusers_files import INDICES, WEIGHTS, read_json, read_weights, shards_of, weights_in
from checkpoints.foreign.diffusers_layout import state_dict_from_diffusers
from checkpoints.foreign.diffusers_scheduler import schedule_from_diffusers
from common.errors import UserError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(path: str | Path) -> bool:
    """Whether "owner/name" means a repository of the hub: it is no path on the disk, and neither is `owner`."""
    path = Path(path)
    return (
        bool(_HUB_NAME.fullmatch(path.as_posix()))
        and not path.exists()
        and not path.parent.exists()
        and not path.suffix.lower().startswith((".ckpt", ".safetensors", ".pt", ".bin"))
    )


def read_diffusers(path: str | Path) -> ForeignPrior:
    """The prior in a folder of diffusers, with unet/ and scheduler/ or all in one (as the first releases); in the
    folder unet/ itself too.

    path: the folder, a file of weights in it, or the name of a repository of the hub, which is fetched where there is
    a network and huggingface_hub is installed. Of several files of weights the first of diffusers_files.WEIGHTS is
    taken. Raises UserError for what our U-Net or our schedules do not compute, by key and value;
    for missing and unexpected weights, by name; for .bin files that would run code; for pipelines with further parts
    (latent diffusion).
    """
    folder = _fetched(path) if is_hub_name(path) else Path(path)
    chosen = folder if folder.is_file() else None
    folder = folder.parent if chosen else folder
    where = f"the prior '{path}'"
    _refuse_other_parts(folder, where)
    unet = folder if chosen or not (folder / "unet").is_dir() else folder / "unet"
    config_file, config = read_json(unet / "config.json", f"{where} has no UNet2DModel")
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise UserError(
            f"{where} holds a {config['_class_name']}: only UNet2DModel, the U-Net of unconditional pictures, can be"
            " converted"
        )
    places = [folder / "scheduler", folder, folder.parent / "scheduler"]
    scheduler_file = next(
        (p / "scheduler_config.json" for p in places if (p / "scheduler_config.json").is_file()),
        places[0] / "scheduler_config.json",
    )
    scheduler_file, scheduler = read_json(scheduler_file, f"{where} does not say its noise schedule")
    found = schedule_from_diffusers(scheduler, f"'{scheduler_file}'")
    network = unet_from_diffusers(config)
    if network["out_channels"] == 2 * network["in_channels"] and found.variance == "fixed":
        raise UserError(
            f"{where} has twice as many output channels as the picture, a learned variance, and '{scheduler_file}'"
            ' does not say so: write "variance_type": "learned_range" into it'
        )
    tensors, weights_files = read_weights(chosen or weights_in(unet, where))
    return ForeignPrior(
        network=network,
        tensors=state_dict_from_diffusers(tensors, config=config),
        schedule=found.schedule,
        prediction=found.prediction,
        variance=found.variance,
        shape=(network["in_channels"], *_size(config, where)),
        digest=digest_of([config_file, scheduler_file, *weights_files]),
        where=where,
        training={
            "source": "diffusers",
            "scheduler": scheduler.get("_class_name", "DDPMScheduler"),
            "sampling": found.sampling,
        },
    )


def _refuse_other_parts(folder: Path, where: str) -> None:
    """UserError where model_index.json names parts beside U-Net and scheduler: the pictures are then not what the U-Net
    sees.
    """
    # Beside it too: the folder unet/ of a latent prior is one of a UNet2DModel as any other.
    place = next((p for p in (folder, folder.parent) if (p / "model_index.json").is_file()), None)
    if place is None:
        return
    _, index = read_json(place / "model_index.json", where)
    for name, value in index.items():
        if not name.startswith("_") and name not in ("unet", "scheduler") and value not in (None, [None, None]):
            raise UserError(
                f"{where} has a part '{name}' beside unet and scheduler: only priors of pictures themselves can be"
                " converted, not latent ones"
            )


def _size(config: dict[str, Any], where: str) -> tuple[int, int]:
    size = config.get("sample_size")
    size = (size, size) if isinstance(size, int) else size
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise UserError(
            f"{where} has sample_size={config.get('sample_size')!r}: write the size of its training pictures into"
            " config.json, for example 32"
        )
    return size[0], size[1]


def _fetched(name: str | Path) -> Path:
    """The folder of the hub's cache that holds a repository; only configurations and weights are fetched."""
    files = "config.json, scheduler_config.json and diffusion_pytorch_model.safetensors"
    advice = f"put its {files} into a folder and give that folder's path (docs/checkpoints.md)"
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(
            f"'{name}' is no path on this disk, and to fetch it from the hub huggingface_hub is needed: install it, or"
            f" {advice}"
        ) from error

    def fetch(*patterns: str) -> Path:
        return Path(hub.snapshot_download(Path(name).as_posix(), allow_patterns=list(patterns)))

    try:
        return _fetched_parts(fetch)
    except UserError:
        raise
    except Exception as error:  # every failure of a network has its own class there
        raise UserError(
            f"'{name}' is no path on this disk and cannot be fetched from the hub ({type(error).__name__}): {advice}"
        ) from error


def _fetched_parts(fetch: Callable[..., Path]) -> Path:
    """First what is small, configurations and indices; then one set of weights, the first of WEIGHTS that is there."""
    small = ("config.json", "scheduler_config.json", "model_index.json", *INDICES)
    folder = fetch(*(part + file for part in ("", "unet/", "scheduler/") for file in small))
    part = "unet/" if (folder / "unet").is_dir() else ""
    for file in WEIGHTS:
        if file not in INDICES:
            folder = fetch(part + file)
        elif (folder / part / file).is_file():
            folder = fetch(*(part + shard for shard in sorted(set(shards_of(folder / part / file).values()))))
        if (folder / part / file).is_file():
            break
    return folder
