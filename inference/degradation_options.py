"""What happened to a person's own picture, from the short options of restore.py."""

from pathlib import Path
from typing import Any

from common.errors import UserError, nearest

#: --kernel: the degradation and its options, beside the factor.
KERNELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lanczos2": ("lanczos", {"lobes": 2}),
    "lanczos3": ("lanczos", {"lobes": 3}),
    "bicubic": ("bicubic", {}),
    "average": ("average_pool", {}),
}
DEFAULT_KERNEL = "lanczos2"  # what the published deep image prior assumes


def degradation_options(
    name: str | None,
    options: dict[str, Any],
    *,
    mask: Path | None = None,
    factor: int | None = None,
    kernel: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """(name of the degradation, its options): --degradation with its options as given, or what --mask, or --factor with
    --kernel, stand for.

    Nothing at all is noise alone. UserError where two of them are given, for a kernel that does not exist and a factor
    under 2.
    """
    ways = {"--degradation": name, "--mask": mask, "--factor": factor}
    if mask is not None and name == "given_mask":
        del ways["--degradation"]
    given = [f"{way} {value}" for way, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} are two degradations: give one of them")
    if kernel is not None and factor is None:
        raise UserError(f"--kernel {kernel} says how a picture was made smaller: give --factor F too")
    if mask is not None:
        return "given_mask", {**options, "path": str(mask)}
    if factor is None:
        return name or "identity", options
    if factor < 2:
        raise UserError(
            f"--factor must be a whole number of at least 2, got {factor}: leave it out where the picture was not made"
            " smaller"
        )
    kernel = kernel or DEFAULT_KERNEL
    if kernel not in KERNELS:
        raise UserError(f"--kernel '{kernel}' does not exist{nearest(kernel, KERNELS)}; there are {', '.join(KERNELS)}")
    degradation, fixed = KERNELS[kernel]
    return degradation, {**options, **fixed, "factor": factor}
