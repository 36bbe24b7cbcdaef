"""Weights that describe themselves: files whose header or dictionary says what network they belong to, read without
running anything.

A training checkpoint (.ckpt) holds a plain description under a key of its kind ("prior", "classifier"), `state_dict`
(raw weights, keys with a prefix) and `ema` (averaged weights by the network's own names). A released file
(.safetensors) holds one set of weights by the network's own names, and the description as JSON in its header.
"""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from common.errors import UserError, disk_message
from common.files import write_atomically


def read_described(
    path: str | Path,
    *,
    key: str,
    prefix: str,
    weights: str = "ema",
    hint: str = "",
    adapted: Callable[[dict[str, Any], Path, str], dict[str, Tensor]] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(description, weights by the network's own names) of a .ckpt or .safetensors file.

    key: of the description, which also is what messages call the file. prefix: of raw weights in a .ckpt. weights:
    "ema" or "raw" (a .safetensors file has one set, whatever is asked for). hint: what to do where there is no file.
    adapted(content, path, weights): the weights of a checkpoint that holds an adapter alone (key "adapter"). Reads
    tensors and plain values only: nothing foreign runs. Raises UserError for a missing, corrupt or foreign file.
    """
    path = Path(path)
    if weights not in ("ema", "raw"):
        raise UserError(f"weights of the {key} '{path}' must be 'ema' or 'raw', got '{weights}'")
    if not path.is_file():
        raise UserError(
            f"there is no {key} at '{path}': train one with train.py, or give the path of a .ckpt or .safetensors"
            f" file{hint}"
        )
    refuse_lfs_pointer(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, key)
    return _read_checkpoint(path, key, prefix, weights, adapted)


def refuse_lfs_pointer(path: Path) -> None:
    """UserError where a repository was cloned without git-lfs, so that the file names weights and holds none."""
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"'{path}' is a pointer of git-lfs and not the weights themselves: run git lfs pull --include"
            f" '{path.name}' in that repository, or download the file"
        )


def load_weights(network: nn.Module, tensors: dict[str, Tensor], *, where: str) -> None:
    """Copy weights into a network in float32; UserError that names the first missing, unexpected or misshapen key, or a
    value that is not finite.
    """
    expected = network.state_dict()
    missing, unexpected = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unexpected:
        what = f"lacks '{missing[0]}'" if missing else f"has the unexpected '{unexpected[0]}'"
        raise UserError(
            f"{where} does not fit its network: it {what} ({len(missing)} missing, {len(unexpected)} unexpected)"
        )
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise UserError(
                f"{where} does not fit its network: '{name}' has shape {list(value.shape)}, the network needs"
                f" {list(expected[name].shape)}"
            )
        if not torch.isfinite(value).all():
            raise UserError(f"{where} has weights that are not finite in '{name}': take an earlier checkpoint")
    network.load_state_dict({name: value.float() for name, value in tensors.items()})


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """The dictionary of a training checkpoint, read with weights_only; UserError where the file is missing, corrupt or
    would run code.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint at '{path}': give the path of a .ckpt file")
    refuse_lfs_pointer(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"the checkpoint '{path}' holds more than tensors and plain values, or is not a checkpoint: nothing of it"
            " was run"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"the checkpoint '{path}' cannot be read: it is damaged or not a checkpoint; take another one"
        ) from error
    except OSError as error:
        raise UserError(disk_message(error) or f"the checkpoint '{path}' cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(
            f"the checkpoint '{path}' is foreign: it holds a {type(content).__name__}, not a dictionary that describes"
            " its network"
        )
    return content


def write_safetensors(
    path: str | Path,
    network: nn.Module,
    description: dict[str, Any],
    *,
    dtype: torch.dtype = torch.float16,
    key: str = "prior",
) -> None:
    """Write one set of weights as `dtype` with `description` under `key` in the header, atomically; UserError where a
    weight does not fit into `dtype`.
    """
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in network.state_dict().items()}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"the weight '{name}' is not finite as {str(dtype).removeprefix('torch.')}, nothing was written: take"
                " float32, or other weights"
            )
    write_atomically(path, safetensors.torch.save(tensors, metadata={key: json.dumps(description, sort_keys=True)}))


def _read_checkpoint(
    path: Path,
    key: str,
    prefix: str,
    weights: str,
    adapted: Callable[[dict[str, Any], Path, str], dict[str, Tensor]] | None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    content = read_checkpoint_file(path)
    _refuse_other_kind(path, key, content)
    if not isinstance(content.get(key), dict):
        raise UserError(
            f"the checkpoint '{path}' is foreign: it has no key '{key}'; only checkpoints that train.py wrote describe"
            " their network"
        )
    if adapted is not None and "adapter" in content:
        return content[key], adapted(content, path, weights)
    if weights == "ema" and content.get("ema"):
        return content[key], content["ema"]["weights"]
    if weights == "ema":
        raise UserError(
            f"the checkpoint '{path}' has no averaged weights (it was trained with ema.enabled=false): ask for weights"
            " 'raw'"
        )
    raw = {name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name.startswith(prefix)}
    return content[key], raw


def _refuse_other_kind(path: Path, key: str, content: dict[str, Any]) -> None:
    """UserError where a file is of this project and of the other kind."""
    other = {"prior": "classifier", "classifier": "prior"}.get(key)
    if other in content and key not in content:
        where = {"prior": "as the features of a metric", "classifier": "as the prior"}[key]
        raise UserError(f"'{path}' is a {other}, and a {key} is needed here: give a {key}, and this file {where}")


def _read_safetensors(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        _refuse_other_kind(path, key, header)
        description = json.loads(header[key])
    except KeyError as error:
        raise UserError(f"'{path}' is foreign: its header has no entry '{key}', so the network is not known") from error
    except (safetensors.SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read: it is damaged or not a safetensors file") from error
    if not isinstance(description, dict):
        raise UserError(f"'{path}' is foreign: its header entry '{key}' is not a dictionary")
    return description, tensors
