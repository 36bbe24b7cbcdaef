"""How much memory a deep image prior needs, so that a picture that is too large is refused in one sentence: a kernel
that runs out of it says nothing.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from networks.untrained.base import Architecture

SMALL = 2**18  # pixels of all networks of a pass (512 x 512): below, nobody asks
# times what is kept: the gradients of the widest maps beside it; 1.6 was measured for the published network at 256 x
# 256 on a CPU
GRADIENTS = 1.3
MEMINFO = "/proc/meminfo"
_CGROUP = Path("/sys/fs/cgroup")
_SIDE = 128  # pixels of the trial


def bytes_per_pixel(architecture: Architecture, outputs: int, *, bf16: bool = False) -> float:
    """What the backward pass of one network keeps, in bytes for each pixel of the picture; measured on a picture of 128
    x 128. Weights are left out.
    """
    side = math.ceil(max(_SIDE, architecture.least) / architecture.multiple) * architecture.multiple
    network = architecture.build(outputs=outputs, copies=1)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors themselves, so that no place is used twice

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
    ):
        network(torch.zeros(1, architecture.inputs, side, side))
    return sum(x.untyped_storage().nbytes() for place, x in kept.items() if place not in weights) / side**2


def free_bytes(device: torch.device) -> int | None:
    """Memory that this process can still get on a device, None where nobody says it: a container's limit
    counts, too.
    """
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    if device.type != "cpu":
        return None
    try:
        lines = Path(MEMINFO).read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        free = values["MemAvailable"] + values.get("SwapFree", 0)
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        return min(free, int((_CGROUP / "memory.max").read_text()) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free


def check_memory(
    architecture: Architecture, shape: tuple[int, int, int], copies: int, device: torch.device, *, bf16: bool = False
) -> None:
    """UserError where so many networks in one pass over pictures [C, H, W] need more than is free; a low estimate, not
    to refuse what could work.
    """
    pixels = copies * shape[1] * shape[2]
    free = free_bytes(device) if pixels > SMALL else None
    if free is None:
        return
    needed = GRADIENTS * pixels * bytes_per_pixel(architecture, shape[0], bf16=bf16)
    if needed > free:
        which = "a picture" if copies == 1 else f"{copies} pictures"
        raise UserError(
            f"{which} of {shape[2]}x{shape[1]} pixels (width x height) needs about {needed / 1e9:.3g} GB of memory or"
            f" more while it is fitted, and {free / 1e9:.3g} GB are free: give a smaller picture or a part of it, fewer"
            " at once (together: 1), or an architecture with fewer channels"
        )
