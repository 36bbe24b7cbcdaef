"""Lets torchvision (and what imports it: lightning, torchmetrics) be imported beside a CPU-only build of torch.

The published torchvision wheel is linked against the CUDA build of torch. Beside a CPU build its compiled operators do
not load and ``import torchvision`` ends in ``operator torchvision::nms does not exist``. Declaring the schemas first is
enough for all that this project uses of it (data sets, transforms, utils). Import this module before anything else, in
every process.
"""

import importlib.util
import sys

import torch

_LIBRARY = None  # torch.library definitions live as long as this object: it must not be collected


def apply() -> bool:
    """Declare ``torchvision::nms`` and ``torchvision::qnms`` where the real operators cannot be loaded; returns whether
    it was needed.

    Idempotent. With a CUDA build of torch the wheel brings its own operators and nothing is declared: two declarations
    would clash.
    """
    global _LIBRARY
    if _LIBRARY is not None:
        return True
    if (
        torch.version.cuda is not None
        or "torchvision" in sys.modules
        or importlib.util.find_spec("torchvision") is None
    ):
        return False
    if hasattr(torch.ops.torchvision, "nms") or _compiled_operators_load():
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY = library
    return True


def _compiled_operators_load() -> bool:
    """Whether torchvision's compiled extension can be loaded here: a CPU build of torchvision brings working
    operators.
    """
    from pathlib import Path

    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return False
    folder = Path(found.submodule_search_locations[0])
    for extension in sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(extension))
        except OSError:  # linked against CUDA libraries that are not here: exactly the case that the remedy is for
            return False
    return hasattr(torch.ops.torchvision, "nms")


apply()
