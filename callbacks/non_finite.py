"""Where a number that is not finite began: the images, a weight, a layer's output, a layer's gradient."""

import torch
from torch import Tensor, nn

from common.batch import Batch
from common.private_names import foreach_norm
from lightning_modules.base import TrainedModule


def are_finite(tensors: list[Tensor]) -> list[bool]:
    """For each tensor whether all its values are finite: its largest magnitude is."""
    by_kind: dict[tuple, list[int]] = {}
    for i, t in enumerate(tensors):
        if t.numel():
            by_kind.setdefault((t.device, t.dtype), []).append(i)
    good = [True] * len(tensors)
    for rows in by_kind.values():
        largest = torch.stack(list(foreach_norm([tensors[i] for i in rows], float("inf"))))
        for i, finite in zip(rows, largest.isfinite().tolist(), strict=True):
            good[i] = finite
    return good


def origin_of(module: TrainedModule, batch: Batch, images_seen: int) -> str | None:
    """Repeats the step of `batch` that began at `images_seen`, and says where it first shows a number that is not
    finite; None where it does not.

    Looked at in this order: images, weights, outputs of the network's layers in order of execution, the loss, gradients
    from the last layer back.
    """
    images = batch.image.flatten(1).isfinite().all(1).tolist()
    if not all(images):
        return f"because the training image with index {int(batch.index[images.index(False)])} is not finite"
    network = module.network
    names = {m: n for n, m in network.named_modules()}
    good = are_finite([p.detach() for p in network.parameters()])
    if not all(good):
        name = [n for n, _ in network.named_parameters()][good.index(False)]
        return f"because the weight '{name}' of the network is not finite"
    order: list[nn.Module] = []
    first: list[nn.Module] = []

    def watch(layer: nn.Module, inputs: object, output: object) -> None:
        order.append(layer)
        if not first and not all(are_finite([t for t in _tensors(output) if t.is_floating_point()])):
            first.append(layer)

    handles = [m.register_forward_hook(watch) for m in network.modules()]
    training = network.training
    network.train()
    try:
        with module.again(images_seen), torch.enable_grad():
            loss = module.repeat(batch)
            if first:
                return f"first in the output of the layer '{names[first[0]] or 'network'}' ({type(first[0]).__name__})"
            if not torch.isfinite(loss):
                return "in the loss itself, of a finite output of the network"
            parameters = [p for p in network.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    given = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    bad = {id(p) for (p, _), finite in zip(given, are_finite([g for _, g in given]), strict=True) if not finite}
    for layer in reversed(order):  # the backward pass goes from the last layer to the first
        for name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in bad:
                return f"first in the gradient of '{names[layer]}.{name}' ({type(layer).__name__})"
    return None


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _tensors(v)]
    return [t for v in value.values() for t in _tensors(v)] if isinstance(value, dict) else []
