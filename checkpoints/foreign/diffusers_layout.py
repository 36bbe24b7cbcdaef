"""Weights of diffusers' UNet2DModel, as in google/ddpm-cifar10-32, to and from our U-Net: one function, the same
numbers under other names.

diffusers itself is not needed. Queries, keys and values are three linear layers there and one 1x1 convolution here.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from checkpoints.foreign.diffusers_config import unet_from_diffusers
from common.errors import UserError
from networks.unet import UNet

# Modules as (theirs, ours); "#" is a number. All but the fused attention is a change of name.
_BLOCK = [
    *((n, n) for n in ("norm1", "conv1", "norm2", "conv2")),
    ("time_emb_proj", "shift"),
    ("conv_shortcut", "skip"),
]
_ATTENTION = [("group_norm", "norm"), ("to_q", "qkv"), ("to_k", "qkv"), ("to_v", "qkv"), ("to_out.0", "mix")]
_PLACES = [
    ("down_blocks.#.resnets.#", "down.#.blocks.#", _BLOCK),
    ("down_blocks.#.attentions.#", "down.#.attentions.#", _ATTENTION),
    ("down_blocks.#.downsamplers.0", "down.#.resample", [("conv", "conv"), *_BLOCK]),
    ("mid_block.resnets.0", "middle_block1", _BLOCK),
    ("mid_block.attentions.0", "middle_attention", _ATTENTION),
    ("mid_block.resnets.1", "middle_block2", _BLOCK),
    ("up_blocks.#.resnets.#", "up.#.blocks.#", _BLOCK),
    ("up_blocks.#.attentions.#", "up.#.attentions.#", _ATTENTION),
    ("up_blocks.#.upsamplers.0", "up.#.resample", [("conv", "conv"), *_BLOCK]),
]
_MODULES = [
    ("conv_in", "stem"),
    ("time_embedding.linear_1", "time_embedding.linear1"),
    ("time_embedding.linear_2", "time_embedding.linear2"),
    ("conv_norm_out", "head_norm"),
    ("conv_out", "head"),
    *((f"{theirs}.{a}", f"{ours}.{b}") for theirs, ours, parts in _PLACES for a, b in parts),
]
_TO_OURS = [(re.compile(re.escape(theirs).replace(r"\#", r"(\d+)")), ours) for theirs, ours in _MODULES]
_TO_THEIRS = [(re.compile(re.escape(ours).replace(r"\#", r"(\d+)")), theirs) for theirs, ours in _MODULES]

# attention before diffusers 0.15
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_QKV = ("to_q", "to_k", "to_v")


def state_dict_from_diffusers(
    state_dict: Mapping[str, Tensor], *, config: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Our U-Net's weights from those of a UNet2DModel, bit for bit and in their precision; attention under its old
    names is read too.

    config: where given, every key and shape is checked against the network of
            checkpoints/foreign/diffusers_config.unet_from_diffusers.
    Raises UserError that names unexpected and missing keys, in diffusers' names.
    """
    theirs = {_modern(name): tensor for name, tensor in state_dict.items()}
    found = {name: _rename(name, _TO_OURS) for name in theirs}
    _complain("unexpected", [name for name, ours in found.items() if ours is None])
    renamed = {name: ours for name, ours in found.items() if ours is not None}
    _complain("missing", [n for name in theirs for n in _siblings(name) if n not in theirs])
    if config is not None:
        with torch.device("meta"):
            network = UNet(**unet_from_diffusers(config))
        expected = {name: tensor.shape for name, tensor in state_dict_to_diffusers(network.state_dict()).items()}
        _complain("missing", [name for name in expected if name not in theirs])
        _complain("unexpected", [name for name in theirs if name not in expected])
        for name, shape in expected.items():
            if theirs[name].shape != shape:
                raise UserError(
                    f"the weights do not fit their config: {name} has shape {list(theirs[name].shape)}, expected"
                    f" {list(shape)}"
                )

    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        target, leaf = renamed[name], name.split(".")[-2]
        if leaf in _QKV[1:]:
            continue  # taken together with to_q
        if leaf == "to_q":
            tensor = torch.cat([theirs[name.replace(".to_q.", f".{part}.")] for part in _QKV])
        if target.endswith((".qkv.weight", ".mix.weight")):
            tensor = tensor[:, :, None, None]
        ours[target] = tensor.clone()
    return ours


def state_dict_to_diffusers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`state_dict_from_diffusers`, bit for bit; UserError that names a key that UNet2DModel has no
    place for.
    """
    theirs: dict[str, Tensor] = {}
    unexpected = []
    for name, tensor in state_dict.items():
        target = _rename(name, _TO_THEIRS)
        if target is None:
            unexpected.append(name)
            continue
        if name.endswith((".qkv.weight", ".mix.weight")):
            tensor = tensor[:, :, 0, 0]
        if ".to_q." in target:
            for part, third in zip(_QKV, tensor.chunk(3), strict=True):
                theirs[target.replace(".to_q.", f".{part}.")] = third.clone()
        else:
            theirs[target] = tensor.clone()
    _complain("unexpected", unexpected)
    return theirs


def _rename(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    """The same parameter's name on the other side (q, k and v all become qkv, which goes back to to_q); None where
    there is none.
    """
    module, _, kind = name.rpartition(".")
    if kind in ("weight", "bias"):
        for pattern, target in table:
            if found := pattern.fullmatch(module):
                return f"{target.replace('#', '{}').format(*found.groups())}.{kind}"
    return None


def _modern(name: str) -> str:
    """Today's name of a parameter of an attention."""
    found = re.fullmatch(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", name)
    return f"{found[1]}.{_OLD_NAMES[found[2]]}.{found[3]}" if found else name


def _siblings(name: str) -> list[str]:
    """The three names that are fused with this one, if any."""
    found = re.fullmatch(r"(.*\.attentions\.\d+)\.to_[qkv]\.(weight|bias)", name)
    return [f"{found[1]}.{part}.{found[2]}" for part in _QKV] if found else []


def _complain(what: str, names: list[str]) -> None:
    """UserError with the first names and how many there are."""
    if names:
        names = sorted(set(names))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(f"the weights are not those of the expected U-Net, {what}: {', '.join(names[:5])}{more}")
