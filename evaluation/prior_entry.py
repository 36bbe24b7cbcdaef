"""A prior as a configuration names it."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from checkpoints.foreign.detect import PRESETS
from checkpoints.lora.files import AdapterEntry
from common.errors import UserError, nearest
from evaluation.entries import a_mapping, known_keys


@dataclass(frozen=True)
class Prior:
    """A checkpoint: path of a .ckpt or .safetensors, which of its weights, "ema" or "raw", and the adapters that are
    added to them.

    Or a foreign checkpoint, see checkpoints/foreign/detect.py; preset: of a .pt file of guided-diffusion. trained_by: a
    training config and its options, that make it (None: those that the path says, evaluation/trainings.py).
    """

    path: str
    weights: str = "ema"
    adapters: tuple[AdapterEntry, ...] = ()
    preset: str | None = None
    trained_by: str | None = None


def plain_priors(priors: dict[str, Prior]) -> dict[str, Any]:
    """As dictionaries; without adapters, preset and trained_by they are what they were before there were any."""
    plain = {name: dataclasses.asdict(prior) for name, prior in priors.items()}
    for entry in plain.values():
        entry["adapters"] = list(entry["adapters"])
        if not entry["adapters"]:
            del entry["adapters"]
        for key in ("preset", "trained_by"):
            if entry[key] is None:
                del entry[key]
    return plain


def prior_of(value: Any, where: str) -> Prior:
    value = {"path": value} if isinstance(value, str) else dict(a_mapping(value, where))
    known_keys(value, Prior, where)
    if not isinstance(value.get("path"), str) or not value["path"]:
        raise UserError(
            f"{where}: path is missing; give the path of a checkpoint or of a foreign checkpoint (docs/checkpoints.md),"
            " or --prior PATH"
        )
    if value.get("weights", "ema") not in ("ema", "raw"):
        raise UserError(f"{where}.weights must be ema or raw, got '{value['weights']}'")
    adapters = value.get("adapters") or []
    # by name, so that a later file or the command line can change one; null takes one out
    if isinstance(adapters, dict):
        given = [(f"{where}.adapters.{name}", entry) for name, entry in adapters.items() if entry is not None]
    elif isinstance(adapters, (list, tuple)):
        given = [(f"{where}.adapters[{k}]", entry) for k, entry in enumerate(adapters)]
    else:
        raise UserError(f"{where}.adapters must be paths or {{path, scale}}, by name or as a list, got {adapters!r}")
    entries = tuple(_adapter(entry, place) for place, entry in given)
    preset = value.get("preset")
    if preset is not None and preset not in PRESETS:
        raise UserError(
            f"{where}.preset: there is no preset '{preset}'{nearest(str(preset), PRESETS)}; there are"
            f" {', '.join(PRESETS)}"
        )
    trained_by = value.get("trained_by")
    if trained_by is not None and not (isinstance(trained_by, str) and trained_by.strip()):
        raise UserError(f"{where}.trained_by must be a training config with its options, got {trained_by!r}")
    return Prior(
        path=value["path"],
        weights=value.get("weights", "ema"),
        adapters=entries,
        preset=preset,
        trained_by=trained_by,
    )


def _adapter(value: Any, where: str) -> AdapterEntry:
    value = known_keys({"path": value} if isinstance(value, str) else a_mapping(value, where), AdapterEntry, where)
    if not isinstance(value.get("path"), str) or not value["path"]:
        raise UserError(f"{where}: path is missing; give the folder of an adapter or a .ckpt that holds one")
    scale = value.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise UserError(f"{where}.scale must be a finite number, got {scale!r}")
    return AdapterEntry(path=value["path"], scale=float(scale))
