"""What happened to a person's own picture, from the short options of restore.py."""

from pathlib import Path
from typing import Any

from common.build import build, describe
from common.errors import UserError, nearest
from degradations.base import Degradation
from inference.catalogue import choose, degradations

#: --kernel: the degradation and its options, beside the factor.
KERNELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lanczos2": ("lanczos", {"lobes": 2}),
    "lanczos3": ("lanczos", {"lobes": 3}),
    "bicubic": ("bicubic", {}),
    "average": ("average_pool", {}),
}
SMALLER = frozenset(name for name, _ in KERNELS.values())
DEFAULT_KERNEL = "lanczos2"  # what the published deep image prior assumes


def degradation_options(
    name: str | None,
    options: dict[str, Any],
    *,
    mask: Path | None = None,
    factor: int | None = None,
    kernel: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """(name of the degradation, its options): --degradation with its options as given, a file for the blur by the
    kernel in it, and what --factor, with --kernel, stands for after it; with --mask the composition of that and the
    mask: a blurred or a small picture with holes.

    Nothing at all is noise alone. UserError for a kernel that does not exist and a factor under 2.
    """
    if kernel is not None and factor is None:
        raise UserError(f"--kernel {kernel} says how a picture was made smaller: give --factor F too")
    if name is not None and Path(name).is_file():
        name, options = "kernel_blur", {**options, "path": name}
    if factor is not None:
        if name in SMALLER:
            raise UserError(f"--degradation {name} and --factor {factor} both make it smaller: give one of them")
        alone = name in (None, "identity")
        smaller, fixed = _smaller(factor, kernel or DEFAULT_KERNEL, options if alone else {})
        name, options = (smaller, fixed) if alone else _then(str(name), options, {smaller: fixed})
    if mask is None:
        return name or "identity", options
    if name in (None, "identity", "given_mask"):
        return "given_mask", {**options, "path": str(mask)}
    return _then(str(name), options, {"given_mask": {"path": str(mask)}})


def _then(name: str, options: dict[str, Any], part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The composition of a degradation, which may be one already, and a last part."""
    parts = options.get("parts") if name == "composition" else None
    return "composition", {**(options if parts else {}), "parts": [*(parts or [{name: options}]), part]}


def _smaller(factor: int, kernel: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if factor < 2:
        raise UserError(
            f"--factor must be a whole number of at least 2, got {factor}: leave it out where the picture was not made"
            " smaller"
        )
    if kernel not in KERNELS:
        raise UserError(f"--kernel '{kernel}' does not exist{nearest(kernel, KERNELS)}; there are {', '.join(KERNELS)}")
    degradation, fixed = KERNELS[kernel]
    return degradation, {**options, **fixed, "factor": factor}


def user_degradation(name: str, options: dict[str, Any]) -> Degradation:
    """The degradation by its name in the catalogue, with its options; UserError where it does not exist, or where it
    draws what nobody knows of a picture that was degraded elsewhere.
    """
    where = f"--degradation {name}"
    described = describe(choose(name, degradations(), "--degradation"), _with_class_paths(options))
    degradation = build(described, Degradation, where=where)
    if degradation.draws:
        raise UserError(
            f"{where} draws what happened to each picture (the place of holes ...), and nobody can draw again what"
            " happened to this one: name parts that say it, such as given_mask"
        )
    return degradation


def _with_class_paths(options: dict[str, Any]) -> dict[str, Any]:
    """The options with their `parts` by class path, where these are given by name: [{reflecting_blur: {std: 1.5}}]."""
    parts = options.get("parts")
    if not isinstance(parts, list):
        return options
    described = []
    for part in parts:
        if isinstance(part, dict) and len(part) == 1 and "class_path" not in part:
            ((name, inner),) = part.items()
            part = describe(choose(name, degradations(), "--degradation.parts"), _with_class_paths(inner or {}))
        described.append(part)
    return {**options, "parts": described}


def paths_in(options: Any) -> list[str]:
    """Every `path` in the options, of nested ones too."""
    if isinstance(options, dict):
        own = [str(options["path"])] if options.get("path") is not None else []
        return own + [p for value in options.values() for p in paths_in(value)]
    return [p for value in options for p in paths_in(value)] if isinstance(options, list) else []
