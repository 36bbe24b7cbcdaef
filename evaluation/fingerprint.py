"""What a row of results depends on, as sixteen hexadecimal digits."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.files import sha256_of
from common.renamed import original
from evaluation.config import Config

VERSION = 1  # raise it when the same configuration begins to give other results

# Options of data sets that change how pixels are stored, loaded or used in training, not which test images there are.
_NO_INFLUENCE = frozenset(
    {
        "batch_size",
        "data_dir",
        "workers",
        "memory_limit_mb",
        "keep_on_device",
        "predict_images",
        "horizontal_flip",
        "seed",
        "download",
    }
)

# Methods whose step follows the noise where none of these options is given, and did not when rows were first hashed.
_STEP_OPTIONS = {
    "restoration.dps.DPS": ("scale", "relative_scale"),
    "restoration.warm_start.WarmStart": ("relative_scale",),
}

# Methods whose input gets more jitter where it is normal and none is named, and did not when rows were first hashed.
_DEEP_IMAGE_PRIORS = frozenset({"restoration.dip.DIP", "restoration.dip_with_prior.DIPWithPrior"})

# Options of terms beside a deep image prior that the parser turned from 1 into 1.0.
_FLOATS_OF_TERMS = frozenset({"weight", "beta", "learning_rate"})


def cell_fingerprint(config: Config, task: str, method: str, prior: str | None, precision: str) -> str:
    """A hash of all that changes the results of one cell: seed, images, task, method, the bytes of its prior and of
    files that task and method name, precision.

    Not in it: limit, batch size, devices, metrics, other cells. So an evaluation may be extended by images, tasks and
    methods, and a cell whose own settings changed is noticed. prior: the fingerprint of the checkpoint, None where the
    method uses none.
    """
    asked, cell = config.methods[method], config.tasks[task]
    options = asked.options(task)
    data = {
        k: v
        for k, v in config.data["init_args"].items()
        if k not in _NO_INFLUENCE and not (k == "limit" and config.split != "train")
    }
    parts: dict[str, Any] = {
        "version": VERSION,
        "seed": config.seed,
        "data": {"class_path": config.data["class_path"], "init_args": data},
        "split": config.split,
        "degradation": cell.degradation,
        "noise": cell.noise,
        "method": {"class_path": asked.class_path, "init_args": options, "num_samples": asked.num_samples},
        "prior": prior,
        "precision": precision,
    }
    named = [_digest(p, p.stat().st_mtime_ns) for p in _files([cell.degradation, cell.noise, options])]
    # a mask, or a prior inside a term of a deep image prior; where there are none the fingerprint is what it was before
    # they were in it
    if named:
        parts["files"] = named
    # a class that moved since gives the same results
    parts = _with_terms_as_text(_with_marks(original(parts)))
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _files(value: Any, name: str = "") -> Iterator[Path]:
    """The files that options called `path` name, at any depth; of a folder (a prior of diffusers) those inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _files(inner, key)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _files(inner)
    elif name == "path" and isinstance(value, str):
        path = Path(value)
        yield from (
            [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
        )


def _with_marks(value: Any) -> Any:
    """`value` with a mark where a method takes the step that follows the noise, or a deep image prior as much jitter as
    its input is wide: their options are those of rows that were made otherwise.
    """
    if isinstance(value, str):
        return {"class_path": value, "step": 2} if value == "restoration.dps.DPS" else value
    if isinstance(value, (list, tuple)):
        return [_with_marks(v) for v in value]
    if not isinstance(value, dict):
        return value
    found = {k: v if k == "class_path" else _with_marks(v) for k, v in value.items()}
    options = value.get("init_args") or {}
    names = _STEP_OPTIONS.get(str(value.get("class_path")), ())
    taken = bool(names) and all(options.get(name) is None for name in names)
    if taken and (options.get("consistency") == "gradient" or "scale" in names):
        found["step"] = 2
    wide = options.get("input") == "normal" and options.get("jitter") is None
    if wide and value.get("class_path") in _DEEP_IMAGE_PRIORS:
        found["jitter"] = 2
    return found


def _with_terms_as_text(value: Any) -> Any:
    """`value` with the entries of every list `terms` as text, which is how they were hashed first: the parser had put
    objects of its own in their place. Entries that name a file stay, because its bytes are hashed beside them.
    """
    if isinstance(value, dict):
        return {
            k: [_term_text(t) for t in v]
            if k == "terms" and isinstance(v, list) and not any(_files(v))
            else _with_terms_as_text(v)
            for k, v in value.items()
        }
    return value


def _term_text(value: Any, name: str = "") -> str:
    if isinstance(value, dict):
        return f"Namespace({', '.join(f'{k}={_term_text(v, k)}' for k, v in value.items())})"
    if isinstance(value, str) and not name:
        return _term_text({"class_path": value})
    return repr(float(value) if name in _FLOATS_OF_TERMS and isinstance(value, int) else value)


@lru_cache
def _digest(path: Path, written: int) -> str:
    """SHA-256 of a file as it was written at a time; many cells share one."""
    del written
    return sha256_of(path)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Which entries of two nested dictionaries differ, as "methods.dps.init_args.scale: 0.3 -> 0.5"."""
    found = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {_short(a)} -> {_short(b)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, default=str) if not dataclasses.is_dataclass(value) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
