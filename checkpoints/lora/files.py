"""Adapters as files: peft's folder (adapter_config.json, adapter_model.safetensors or .bin), or a training checkpoint
that holds adapters only.

Nothing here imports peft or builds a network: what a file says are names, numbers and tensors, and whatever else it
asks for is refused.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from checkpoints.files import read_checkpoint_file
from checkpoints.foreign.base import only_tensors
from checkpoints.lora.peft_config import CONFIG, config_of, read_config, settings_of
from common.errors import UserError, disk_message
from common.files import sha256_of, write_atomically
from networks.lora_settings import LoRASettings

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
PEFT_PREFIX = "base_model.model."
FORMAT = 1
KEY = "adapter"  # of a training checkpoint
BASE = "base_hash"  # in the header of our safetensors: of the weights that the adapter was trained beside


@dataclass(frozen=True)
class Adapter:
    """A low-rank adapter: W + scale B A for some layers of a network.

    Args:
        settings: its layers and numbers.
        tensors: "<layer>.lora_A.weight" [r, I, ...], ".lora_B.weight" [O, r, ...], with DoRA ".lora_magnitude_vector"
            [O].
        base: checkpoints.lora.merging.weights_hash of the weights that it was trained beside, None where the file does
            not say.
    """

    settings: LoRASettings
    tensors: dict[str, Tensor]
    base: str | None = None


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter that a config names beside a prior: path of a folder or of a .ckpt, and the factor of its change.

    Args:
        path: a folder in peft's format, or a .ckpt of a fine-tuning.
        scale: factor of the change of the weights; 1 (default): as trained, 0: not at all.
    """

    path: str
    scale: float = 1.0


@dataclass(frozen=True)
class Base:
    """The prior that a checkpoint of adapters belongs to: path, which of its weights, their hash as the adapter saw
    them.

    Args:
        images: how many images side by side the adapted network sees (checkpoints/lora/merging.py, widened).
        preset: of a .pt file of guided-diffusion.
    """

    path: str
    weights: str
    hash: str
    images: int = 1
    preset: str | None = None


def write_adapter(folder: str | Path, adapter: Adapter, *, base_name: str = "") -> Path:
    """Write peft's two files, float32; the folder. base_name: what adapter_config.json calls the base."""
    folder = Path(folder)
    tensors = {PEFT_PREFIX + n: t.detach().float().cpu().contiguous() for n, t in adapter.tensors.items()}
    header = {"format": "pt"} | ({BASE: adapter.base} if adapter.base else {})
    write_atomically(folder / WEIGHTS, safetensors.torch.save(tensors, metadata=header))
    write_atomically(folder / CONFIG, json.dumps(config_of(adapter.settings, base_name=base_name), indent=2) + "\n")
    return folder


def read_adapter(path: str | Path, *, weights: str = "ema") -> Adapter:
    """Read an adapter from peft's folder or from a checkpoint of lightning_modules.lora_fine_tuning ("ema" or "raw" of
    it).

    Values and tensors only: nothing foreign runs, no class that the file names is looked for. UserError for a missing,
    damaged or foreign file, and for a config that asks for what is not implemented here.
    """
    path = Path(path)
    if path.suffix == ".ckpt":
        content = read_checkpoint_file(path)
        if not isinstance(content.get(KEY), dict):
            raise UserError(
                f"the checkpoint '{path}' holds no adapter: give one of"
                " lightning_modules.lora_fine_tuning.LoRAFineTuning, or peft's folder"
            )
        return adapter_of_checkpoint(content, path, weights=weights)
    folder, file = _places(path)
    for name in (CONFIG, file.name):
        if not (folder / name).is_file():
            raise UserError(
                f"there is no adapter at '{folder}': it needs {CONFIG} and {WEIGHTS} or {PICKLED}, and {name} is not"
                " there"
            )
    config = read_config(folder / CONFIG)
    header, tensors = _read_safetensors(file) if file.suffix == ".safetensors" else ({}, _read_pickled(file))
    named = {n.removeprefix(PEFT_PREFIX): t.float() for n, t in tensors.items()}
    return _checked(config, named, header.get(BASE), f"the adapter '{folder}'")


def adapter_fingerprint(path: str | Path, *, weights: str = "ema") -> str:
    """Identifies the files that hold an adapter's numbers, rank and alpha, and, of a checkpoint, which of its
    weights.
    """
    path = Path(path)
    if path.name in (WEIGHTS, PICKLED) or path.is_dir():
        folder, file = _places(path)  # as read_adapter: alpha stands beside it
        return f"{sha256_of(file)}+{sha256_of(folder / CONFIG)}"
    return sha256_of(path) + ("" if weights == "ema" else f":{weights}")


def describe_adapter(settings: LoRASettings, base: Base) -> dict[str, Any]:
    """The `adapter` dictionary of a training checkpoint."""
    plain = {
        "layers": list(settings.layers),
        **{k: getattr(settings, k) for k in ("rank", "alpha", "dropout", "rslora", "dora")},
        **{k: dict(v) for k in ("ranks", "alphas") if (v := getattr(settings, k))},
    }
    return {"format": FORMAT, "settings": plain, "base": {k: v for k, v in asdict(base).items() if v is not None}}


def adapter_of_checkpoint(content: dict[str, Any], path: Path, *, weights: str) -> Adapter:
    """The adapter of the dictionary of a training checkpoint; UserError where it is incomplete."""
    where, described = f"the checkpoint '{path}'", content[KEY]
    if weights not in ("ema", "raw"):
        raise UserError(f"weights of {where} must be 'ema' or 'raw', got '{weights}'")
    if weights == "ema" and not content.get("ema"):
        raise UserError(
            f"{where} has no averaged weights (it was trained with ema.enabled=false): ask for weights 'raw'"
        )
    try:
        if described["format"] != FORMAT:
            raise UserError(
                f"{where} has an adapter of format {described['format']!r}; this version reads format {FORMAT}"
            )
        given = dict(described["settings"])
        settings = LoRASettings(**{**given, "layers": tuple(given["layers"])})
        state = content["ema"]["weights"] if weights == "ema" else content["state_dict"]
        tensors = {_public(n): t.float() for n, t in state.items() if ".lora_" in n}
        base = described["base"]["hash"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} does not describe its adapter ({error}): it is incomplete, train it again") from error
    return _checked(settings, tensors, base, where)


def _places(path: Path) -> tuple[Path, Path]:
    """The folder of an adapter and its file of numbers: the one that was named, else safetensors before pickled."""
    if path.name in (WEIGHTS, PICKLED):
        return path.parent, path
    pickled_only = (path / PICKLED).is_file() and not (path / WEIGHTS).is_file()
    return path, path / (PICKLED if pickled_only else WEIGHTS)


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read: it is damaged or not a safetensors file") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path}' cannot be read ({error})") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    """With weights_only: tensors, and nothing that runs."""
    return only_tensors(read_checkpoint_file(path), path)


def _public(name: str) -> str:
    """ "denoiser.network.x.lora_A.default.weight" as "x.lora_A.weight", "x.lora_magnitude_vector.default.weight" as
    "x.lora_magnitude_vector".
    """
    name = name.partition(".network.")[2] or name
    layer, _, rest = name.rpartition(".lora_")
    part = rest.split(".")[0]
    return f"{layer}.lora_{part}" + ("" if part == "magnitude_vector" else ".weight")


def _checked(given: LoRASettings | dict[str, Any], tensors: dict[str, Tensor], base: str | None, where: str) -> Adapter:
    """The adapter whose every layer has the tensors that its settings say; the layers are those of the tensors, in the
    order of their names.
    """
    layers = tuple(sorted({n.rpartition(".lora_")[0] for n in tensors if ".lora_" in n}))
    if isinstance(given, LoRASettings):
        settings = given
    else:
        settings = settings_of(given, layers)
    parts = (".lora_A.weight", ".lora_B.weight", *((".lora_magnitude_vector",) if settings.dora else ()))
    expected = {layer + part for layer in settings.layers for part in parts}
    wrong = sorted(expected ^ set(tensors))
    if wrong or not expected:
        what = "no layers" if not wrong else f"'{wrong[0]}' {'missing' if wrong[0] in expected else 'unexpected'}"
        raise UserError(f"{where} is damaged or of a kind that cannot be read: it has {what}")
    for layer in settings.layers:
        down, up = tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"]
        if (
            down.shape[0] != settings.rank_of(layer)
            or up.shape[1:2] != (settings.rank_of(layer),)
            or any(n != 1 for n in up.shape[2:])
            or down.ndim != up.ndim
        ):
            raise UserError(
                f"{where} is damaged: '{layer}' has A {list(down.shape)} and B {list(up.shape)}, and the rank is"
                f" {settings.rank_of(layer)}"
            )
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{where} has weights that are not finite in '{name}': take an earlier one")
    return Adapter(settings, tensors, base)
