"""Every prior that a path can name, read without Lightning: this project's denoisers and cold restorers, those of other
projects, adapters beside them.

The one file that knows them all. What it needs to know of each kind stands in the files beneath it, which do not know
of each other.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints.cold_restorer import PREFIX as COLD_PREFIX
from checkpoints.cold_restorer import LoadedColdRestorer, build_cold_restorer
from checkpoints.files import load_weights, read_described
from checkpoints.foreign.detect import is_foreign, read_foreign, refuse_preset
from checkpoints.lora.apply import adapted_weights
from checkpoints.prior import PREFIX, LoadedPrior, build_denoiser, describe_prior
from common.files import sha256_of
from common.renamed import renamed_options
from diffusion.image_conditioning import ConditioningOptions


def load_prior(
    path: str | Path, *, weights: str = "ema", device: torch.device | str = "cpu", preset: str | None = None
) -> LoadedPrior:
    """Read a denoiser from .ckpt or .safetensors, from a folder or hub name of diffusers, or from a .pt of
    guided-diffusion.

    Reads tensors and plain values only (weights_only) and builds this project's own classes only: nothing foreign runs.

    Args:
        path: the file or folder; a foreign checkpoint is described as if it were one of ours, so that `description`
        builds
            the same denoiser again.
        weights: "ema" or "raw" of a .ckpt; every other file has one set, whatever is asked for.
        device: where the denoiser goes, in eval mode and frozen.
        preset: what a .pt file does not say, unless a YAML file beside it does (checkpoints/foreign/adm_flags.py).

    Raises:
        UserError: a missing, corrupt or foreign file, unknown classes, or weights that do not fit the network.
    """
    path = Path(path)
    if is_foreign(path):
        found = read_foreign(path, preset=preset)
        foreign = found.denoiser()
        foreign.to(device).eval().requires_grad_(False)
        described = describe_prior(foreign, data=found.data, training=found.training)
        return LoadedPrior(denoiser=foreign, description=described, fingerprint=found.digest)
    refuse_preset(path, preset)
    description, tensors = _read(path, prefix=PREFIX, weights=weights)
    denoiser = build_denoiser(description, where=f"the prior '{path}'")
    load_weights(denoiser.network, tensors, where=f"the prior '{path}'")
    denoiser.to(device).eval().requires_grad_(False)
    return LoadedPrior(denoiser=denoiser, description=description, fingerprint=f"{sha256_of(path)}:{weights}")


def load_cold_restorer(
    path: str | Path, *, weights: str = "ema", device: torch.device | str = "cpu"
) -> LoadedColdRestorer:
    """Read a cold restorer from .ckpt or .safetensors; tensors and plain values only, this project's own classes only.

    Args:
        path: the file.
        weights: "ema" or "raw" of a .ckpt; a .safetensors file has one set, whatever is asked for.
        device: where the restorer goes, in eval mode and frozen.

    Raises:
        UserError: a missing, corrupt or foreign file, unknown classes, weights that do not fit, or a prior of another
        kind.
    """
    path = Path(path)
    description, tensors = _read(path, prefix=COLD_PREFIX, weights=weights)
    where = f"the prior '{path}'"
    restorer, start = build_cold_restorer(description, where=where)
    load_weights(restorer.network, tensors, where=where)
    restorer.to(device).eval().requires_grad_(False)
    return LoadedColdRestorer(
        restorer=restorer, start=start, description=description, fingerprint=f"{sha256_of(path)}:{weights}"
    )


def describes_cold_restorer(path: str | Path, *, weights: str = "ema") -> bool:
    """Whether a file holds a cold restorer (checkpoints/cold_restorer.py) and no denoiser; UserError where it is
    neither.
    """
    return not is_foreign(path) and _read(Path(path), prefix=PREFIX, weights=weights)[0].get("kind") == "restorer"


def prior_weights(path: str | Path, *, weights: str = "ema", preset: str | None = None) -> dict[str, Tensor]:
    """The weights of any prior, denoiser or cold restorer, by its network's own names, float32; UserError as above."""
    if describes_cold_restorer(path, weights=weights):
        return load_cold_restorer(path, weights=weights).restorer.network.state_dict()
    return load_prior(path, weights=weights, preset=preset).denoiser.network.state_dict()


def _read(path: Path, *, prefix: str, weights: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(description, weights); those of a checkpoint of adapters are its prior's with the adapter added."""
    description, tensors = read_described(path, key="prior", prefix=prefix, weights=weights, adapted=_adapted)
    if isinstance(description.get("guide"), dict):  # the one entry that names options and no class
        described = f"{ConditioningOptions.__module__}.{ConditioningOptions.__qualname__}"
        description = {**description, "guide": renamed_options(described, description["guide"])}
    return description, tensors


def _adapted(content: dict[str, Any], path: Path, weights: str) -> dict[str, Tensor]:
    return adapted_weights(content, path, weights=weights, prior_weights=prior_weights)
