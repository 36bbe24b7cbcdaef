"""Snapshots of averaged weights in <run>/ema/: one average at one time of training, itself a released prior, with what
it is in the header.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from common.errors import UserError, disk_message
from common.files import write_atomically

SNAPSHOT_DTYPES = {"float16": torch.float16, "float32": torch.float32}
KEY = "ema_snapshot"


@dataclass(frozen=True)
class Snapshot:
    """A power-function average of relative width `width` (exponent `gamma`) after `images` images and `step` optimiser
    steps.
    """

    width: float
    gamma: float
    images: int
    step: int


def snapshot_path(folder: Path, snapshot: Snapshot) -> Path:
    """<folder>/width_<width>_images_<images>.safetensors: the same snapshot written again by a resumed run replaces
    itself.
    """
    return folder / f"width_{snapshot.width:g}_images_{snapshot.images:012d}.safetensors"


def write_snapshot(
    path: Path, snapshot: Snapshot, weights: dict[str, Tensor], descriptions: dict[str, Any], *, dtype: str
) -> None:
    """Floating tensors as `dtype`, others as they are; header: the snapshot and what the checkpoint says of itself.
    Atomic.
    """
    write_weights(path, weights, {**descriptions, KEY: {"format": 1, **asdict(snapshot)}}, dtype=SNAPSHOT_DTYPES[dtype])


def write_weights(path: Path, weights: dict[str, Tensor], header: dict[str, Any], *, dtype: torch.dtype) -> None:
    """A .safetensors file whose header holds the values of `header` as JSON; ValueError where a weight does not fit
    into `dtype`.
    """
    tensors = {
        n: (v.detach().to(dtype) if v.is_floating_point() else v.detach()).cpu().contiguous()
        for n, v in weights.items()
    }
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"'{name}' is not finite as {str(dtype).removeprefix('torch.')}")
    write_atomically(
        path, safetensors.torch.save(tensors, metadata={k: json.dumps(v, sort_keys=True) for k, v in header.items()})
    )


def discard_snapshots_after(folder: Path, images: int) -> None:
    """Delete the snapshots of a folder that belong to later times than `images`, by their names: a damaged one too."""
    for path in folder.glob("width_*_images_*.safetensors"):
        if int(path.stem.rsplit("_", 1)[1]) > images:
            path.unlink()


def read_snapshots(folder: Path) -> dict[Path, Snapshot]:
    """The snapshots of a folder by file, sorted by images; headers only. UserError where there are none, or where a
    file is damaged.
    """
    found = {path: _read_header(path) for path in sorted(folder.glob("width_*.safetensors"))}
    if not found:
        raise UserError(
            f"there are no snapshots in '{folder}': train with ema.profile power and ema.snapshot_every_n_images set"
        )
    return dict(sorted(found.items(), key=lambda item: (item[1].images, item[1].width)))


def read_description(path: Path) -> dict[str, Any]:
    """What the header says beside the snapshot, by key ("prior"), as plain values."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {k: json.loads(v) for k, v in file.metadata().items() if k != KEY}


def _read_header(path: Path) -> Snapshot:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[KEY])
        return Snapshot(**{k: v for k, v in values.items() if k != "format"})
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is not a snapshot of averaged weights, or is damaged: move it away") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path}' cannot be read ({error})") from error
