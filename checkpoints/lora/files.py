"""Adapters as files: peft's folder (adapter_config.json, adapter_model.safetensors), or a training checkpoint that
holds adapters only.

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
from torch import Tensor, nn

from checkpoints.files import read_checkpoint_file
from common.build import find_class
from common.errors import UserError, disk_message
from common.files import sha256_of, write_atomically
from networks.lora_settings import LoRASettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
FORMAT = 1
KEY = "adapter"  # of a training checkpoint
BASE = "base_hash"  # in the header of our safetensors: of the weights that the adapter was trained beside

# What a config of peft may say beside the settings, and the values under which it means what is computed here.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian"),  # where training began: the file holds where it ended
    "megatron_core": (None, "megatron.core"),  # a module that peft would import, only together with megatron_config
    "qalora_group_size": (None, 16),
    "task_type": (None, "FEATURE_EXTRACTION"),
}
_NOTHING = (None, False, 0, {}, [], "")  # of every other key: that the feature is off
# What is read: (default, types). Without r or lora_alpha the size of the change would be a guess, thus no default.
_READ: dict[str, tuple[Any, tuple[type, ...]]] = {
    "r": (None, (int,)),
    "lora_alpha": (None, (int, float)),
    "lora_dropout": (0.0, (int, float)),
    "use_rslora": (False, (bool,)),
    "use_dora": (False, (bool,)),
}
# The layers are those that the file has tensors for: what chose them does not matter any more.
_IGNORED = {
    "peft_type",
    "target_modules",
    "exclude_modules",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
}


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
    s = adapter.settings
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_name or None,
        "inference_mode": True,
        "r": s.rank,
        "lora_alpha": s.alpha,
        "lora_dropout": s.dropout,
        "use_rslora": s.rslora,
        "use_dora": s.dora,
        "target_modules": list(s.layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    tensors = {PEFT_PREFIX + n: t.detach().float().cpu().contiguous() for n, t in adapter.tensors.items()}
    header = {"format": "pt"} | ({BASE: adapter.base} if adapter.base else {})
    write_atomically(folder / WEIGHTS, safetensors.torch.save(tensors, metadata=header))
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")
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
    if path.name == WEIGHTS:
        path = path.parent
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise UserError(
                f"there is no adapter at '{path}': it needs {CONFIG} and {WEIGHTS}, and {name} is not there"
            )
    config = _read_config(path / CONFIG)
    try:
        with safetensors.safe_open(path / WEIGHTS, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {n.removeprefix(PEFT_PREFIX): file.get_tensor(n).float() for n in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise UserError(f"'{path / WEIGHTS}' cannot be read: it is damaged or not a safetensors file") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path / WEIGHTS}' cannot be read ({error})") from error
    return _checked(config, tensors, header.get(BASE), f"the adapter '{path}'")


def adapter_fingerprint(path: str | Path, *, weights: str = "ema") -> str:
    """Identifies the files that hold an adapter's numbers, rank and alpha, and, of a checkpoint, which of its
    weights.
    """
    path = Path(path)
    if path.name == WEIGHTS:
        path = path.parent  # as read_adapter: alpha stands beside it
    if path.is_dir():
        return f"{sha256_of(path / WEIGHTS)}+{sha256_of(path / CONFIG)}"
    return sha256_of(path) + ("" if weights == "ema" else f":{weights}")


def describe_adapter(settings: LoRASettings, base: Base) -> dict[str, Any]:
    """The `adapter` dictionary of a training checkpoint."""
    plain = {
        "layers": list(settings.layers),
        **{k: getattr(settings, k) for k in ("rank", "alpha", "dropout", "rslora", "dora")},
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


def _public(name: str) -> str:
    """ "denoiser.network.x.lora_A.default.weight" as "x.lora_A.weight", "x.lora_magnitude_vector.default.weight" as
    "x.lora_magnitude_vector".
    """
    name = name.partition(".network.")[2] or name
    layer, _, rest = name.rpartition(".lora_")
    part = rest.split(".")[0]
    return f"{layer}.lora_{part}" + ("" if part == "magnitude_vector" else ".weight")


def _read_config(path: Path) -> dict[str, Any]:
    """peft's config, whatever it asks for beyond the settings refused."""
    where = f"the adapter's '{path}'"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is not readable as JSON: it is damaged") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise UserError(f"{where} is no LoRA adapter (peft_type {kind!r}): only LORA can be read")
    # the class of the network, which peft writes: not needed, and no other than our own is accepted
    if isinstance(config.get("auto_mapping"), dict):
        named = config.pop("auto_mapping")
        find_class(
            f"{named.get('parent_library')}.{named.get('base_model_class')}",
            nn.Module,
            where=f"{where}, auto_mapping",
            project_only=True,
        )
    for key, value in config.items():
        if key not in _READ and key not in _IGNORED and value not in _NEUTRAL.get(key, _NOTHING):
            raise UserError(f"{where} asks for {key}={value!r}, which is not implemented here: nothing of it was run")
    for key, (default, kinds) in _READ.items():
        value = config.setdefault(key, default)
        if type(value) not in kinds:
            raise UserError(f"{where} has {key}={value!r}: expected {' or '.join(k.__name__ for k in kinds)}")
    return config


def _checked(given: LoRASettings | dict[str, Any], tensors: dict[str, Tensor], base: str | None, where: str) -> Adapter:
    """The adapter whose every layer has the tensors that its settings say; the layers are those of the tensors, in the
    order of their names.
    """
    layers = tuple(sorted({n.rpartition(".lora_")[0] for n in tensors if ".lora_" in n}))
    if isinstance(given, LoRASettings):
        settings = given
    else:
        settings = LoRASettings(
            layers=layers,
            rank=given["r"],
            alpha=float(given["lora_alpha"]),
            dropout=float(given["lora_dropout"]),
            rslora=given["use_rslora"],
            dora=given["use_dora"],
        )
    parts = (".lora_A.weight", ".lora_B.weight", *((".lora_magnitude_vector",) if settings.dora else ()))
    expected = {layer + part for layer in settings.layers for part in parts}
    wrong = sorted(expected ^ set(tensors))
    if wrong or not expected:
        what = "no layers" if not wrong else f"'{wrong[0]}' {'missing' if wrong[0] in expected else 'unexpected'}"
        raise UserError(f"{where} is damaged or of a kind that cannot be read: it has {what}")
    for layer in settings.layers:
        down, up = tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"]
        if (
            down.shape[0] != settings.rank
            or up.shape[1:2] != (settings.rank,)
            or any(n != 1 for n in up.shape[2:])
            or down.ndim != up.ndim
        ):
            raise UserError(
                f"{where} is damaged: '{layer}' has A {list(down.shape)} and B {list(up.shape)}, and the rank is"
                f" {settings.rank}"
            )
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{where} has weights that are not finite in '{name}': take an earlier one")
    return Adapter(settings, tensors, base)
