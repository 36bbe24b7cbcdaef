"""Networks whose weights are shared among processes, each of which holds a part: torch's fully_shard (FSDP2).

A weight is then a DTensor. What this project does with weights tensor by tensor (averages, checkpoints, the optimiser's
state) works on the local part, and :func:`whole` puts the parts together where a file is written.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule


def is_sharded(value: object) -> bool:
    """Whether a tensor is one part of several, or a module has such weights."""
    if isinstance(value, nn.Module):
        return any(True for _ in _units(value))
    tensors = sys.modules.get("torch.distributed.tensor")  # before somebody shards, nothing is sharded
    return tensors is not None and isinstance(value, tensors.DTensor)


def shard(network: nn.Module, mesh: "DeviceMesh") -> None:
    """Give each process of `mesh` a part of every weight, and of its gradient and optimiser's state.

    What is put together at once for a forward or backward pass is one block: a module of a list of modules, such as a
    residual block; then what is left of the network. Same weights on all processes before.

    Args:
        network: float32 weights that lie contiguously; changed in place, its class too (to a subclass of its own).
        mesh: one-dimensional, of all processes.
    """
    from torch.distributed.fsdp import fully_shard

    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; a tensor that is not sharded as it is."""
    return cast(Any, tensor).to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor, *, like: Tensor | None = None) -> Tensor:
    """The tensor put together from the parts of all processes, all of which must come here.

    Args:
        like: `tensor` is the local part of one that lies as this one does.
    """
    if like is not None and is_sharded(like):
        from torch.distributed.tensor import DTensor

        of = cast(Any, like)
        tensor = DTensor.from_local(
            tensor, of.device_mesh, of.placements, run_check=False, shape=of.shape, stride=of.stride()
        )
    return cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor


def parted(tensor: Tensor, *, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, parted as `like` is and on its device; a copy. Whole where `like` is
    not sharded.
    """
    if not is_sharded(like):
        return tensor.to(like.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    of = cast(Any, like)
    return distribute_tensor(tensor.to(of.device, copy=True), of.device_mesh, of.placements, src_data_rank=None)


def gather(network: nn.Module) -> None:
    """Put all weights together on every process until :func:`release`: between the two the network may be called by
    some processes and not by others, any number of times, without gradients. All must come here.
    """
    # Tensors that are first made in inference mode could not be trained later.
    with torch.inference_mode(False), torch.no_grad():
        for unit in _units(network):
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()


def release(network: nn.Module) -> None:
    """Back to one part on each process; nothing where the weights were not put together."""
    for unit in _units(network):
        unit.set_reshard_after_forward(unit is not network, recurse=False)
        unit.reshard()


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """:func:`gather` for the time of a block."""
    gather(network)
    try:
        yield
    finally:
        release(network)


def _units(network: nn.Module) -> "Iterator[FSDPModule]":
    """The modules whose weights are put together at once, the network itself first."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None:
        yield from (cast("FSDPModule", m) for m in network.modules() if isinstance(m, fsdp.FSDPModule))


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of modules that are called themselves (lists and bare containers are not), none inside
    another.
    """
    for child in network.children():
        called = type(child).forward is not nn.Module.forward and not isinstance(child, nn.ModuleList)
        if isinstance(network, nn.ModuleList) and called:
            yield child
        else:
            yield from _blocks(child)
