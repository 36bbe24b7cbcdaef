"""adapter_config.json of peft: what it may ask for, and what it says of the layers of an adapter."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from common.build import find_class
from common.errors import UserError
from networks.lora_settings import LoRASettings, whole_name

CONFIG = "adapter_config.json"

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
    "rank_pattern": (None, (dict, type(None))),
    "alpha_pattern": (None, (dict, type(None))),
}
# Of the values in a pattern.
_PATTERNS = {"rank_pattern": (int,), "alpha_pattern": (int, float)}
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


def read_config(path: Path) -> dict[str, Any]:
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
    for key, kinds in _PATTERNS.items():
        for pattern, number in (config[key] or {}).items():
            if type(number) not in kinds:
                raise UserError(
                    f"{where} has {key}={{{pattern!r}: {number!r}}}: expected {' or '.join(k.__name__ for k in kinds)}"
                )
            try:
                re.compile(_whole(pattern))
            except re.error as error:
                raise UserError(f"{where} has {key}: '{pattern}' is no regular expression ({error})") from error
    return config


def settings_of(config: dict[str, Any], layers: Sequence[str]) -> LoRASettings:
    """What a config that was read says of these layers; of a pattern's keys the first that fits counts, as
    where peft reads the file (which it writes with sorted keys).
    """
    own = {key: {n: v for n in layers if (v := _of_pattern(config[key] or {}, n)) is not None} for key in _PATTERNS}
    return LoRASettings(
        layers=tuple(layers),
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config["lora_dropout"]),
        rslora=config["use_rslora"],
        dora=config["use_dora"],
        ranks=own["rank_pattern"],
        alphas={n: float(alpha) for n, alpha in own["alpha_pattern"].items()},
    )


def config_of(settings: LoRASettings, *, base_name: str = "") -> dict[str, Any]:
    """adapter_config.json; base_name: what it calls the base."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_name or None,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "target_modules": list(settings.layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {whole_name(n): rank for n, rank in settings.ranks.items()},
        "alpha_pattern": {whole_name(n): alpha for n, alpha in settings.alphas.items()},
    }


def _of_pattern(patterns: dict[str, Any], layer: str) -> Any:
    """The value of the first key that is the name, its last parts, or a regular expression of either; else None."""
    return next((v for key, v in patterns.items() if re.match(_whole(key), layer)), None)


def _whole(key: str) -> str:
    return rf"(.*\.)?({key})$"
