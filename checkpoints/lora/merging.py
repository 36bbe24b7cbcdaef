"""Weights with adapters added to them: plain tensors in, plain tensors out, without peft and without building a
network.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from checkpoints.lora.files import Adapter
from common.errors import UserError, nearest


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of a network's weights."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().float().contiguous()
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def change(adapter: Adapter, layer: str, shape: Sequence[int], factor: float = 1.0) -> Tensor:
    """c s B A as a change of the weights of a layer, float32 of `shape`: [O, I] or [O, I, k, k], where A is a k x k
    convolution and B a 1x1 one.
    """
    down, up = (adapter.tensors[f"{layer}.lora_{part}.weight"].cpu().float() for part in "AB")
    return (factor * adapter.settings.scale_of(layer)) * (up.flatten(1) @ down.flatten(1)).view(tuple(shape))


def merged(
    weights: Mapping[str, Tensor], adapters: Sequence[tuple[Adapter, float]], *, where: str, any_base: bool = False
) -> dict[str, Tensor]:
    """The weights of a network with adapters at given factors added in float32: W + sum_k c_k s_k B_k A_k; with DoRA m
    (W + s B A) / |W + s B A|, the norm over all but the outputs.

    where: what a message calls the adapters. UserError for adapters of another network, of other weights of the same
    network (unless `any_base`), and for a DoRA adapter beside others or at another factor than 1, which is no sum.
    """
    found = {name: value.detach().cpu().float().clone() for name, value in weights.items()}
    own = weights_hash(weights) if adapters and not any_base else None
    for adapter, factor in adapters:
        if not math.isfinite(factor):
            raise UserError(f"{where}: the scale of an adapter must be finite, got {factor}")
        if adapter.settings.dora and (len(adapters) > 1 or factor != 1):
            raise UserError(f"{where}: an adapter with dora works alone and at scale 1")
        names = sorted({n.rpartition(".")[0] for n in weights})
        for layer in adapter.settings.layers:
            name = f"{layer}.weight"
            down, up = (adapter.tensors[f"{layer}.lora_{part}.weight"] for part in "AB")
            if name not in found:
                raise UserError(
                    f"{where} is for another network: it changes '{layer}', which this one does not"
                    f" have{nearest(layer, names)}"
                )
            needed = (up.shape[0], *down.shape[1:])
            if tuple(found[name].shape) != needed:
                raise UserError(
                    f"{where} is for another network: '{layer}' has weights {list(found[name].shape)} here and"
                    f" {list(needed)} there"
                )
        if own is not None and adapter.base not in (None, own):
            raise UserError(
                f"{where} was trained beside other weights of this network: give the prior (and weights: ema or raw)"
                " that it was trained from"
            )
        for layer in adapter.settings.layers:
            name = f"{layer}.weight"
            found[name] += change(adapter, layer, found[name].shape, factor)
            if adapter.settings.dora:
                length = found[name].flatten(1).norm(dim=1)
                found[name] *= (adapter.tensors[f"{layer}.lora_magnitude_vector"].cpu().flatten() / length).view(
                    -1, *[1] * (found[name].ndim - 1)
                )
    return found


def widened(weights: Mapping[str, Tensor], images: int) -> dict[str, Tensor]:
    """The weights of a U-Net that sees `images` images side by side and answers as it did, whatever the new ones show:
    the stem's new inputs weigh 0.

    UserError where the network has no layer `stem`.
    """
    if "stem.weight" not in weights:
        raise UserError(
            "only a network whose first layer is called stem (networks.unet.UNet) can be given a second image"
        )
    stem = weights["stem.weight"]
    more = stem.new_zeros(stem.shape[0], (images - 1) * stem.shape[1], *stem.shape[2:])
    return {**weights, "stem.weight": torch.cat([stem, more], 1)}
