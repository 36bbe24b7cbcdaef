"""Weights of OpenAI's guided-diffusion (ADM, 2105.05233) and improved-diffusion as weights of our U-Net: the same
function under other names.

Neither project is needed. In the order of their files q, k and v of one head stand together, in ours those of all
heads; the rest is a change of names.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from common.errors import UserError
from networks.unet_parts import multipliers_of

# Modules of a block as (theirs, ours).
_BLOCK = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "shift"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
]
_BLOCK += [("skip_connection", "skip")]
_ATTENTION = [("norm", "norm"), ("qkv", "qkv"), ("proj_out", "mix")]
_ENDS = [
    ("input_blocks.0.0", "stem"),
    ("time_embed.0", "time_embedding.linear1"),
    ("time_embed.2", "time_embedding.linear2"),
]
_ENDS += [("label_emb", "label_embedding"), ("out.0", "head_norm"), ("out.2", "head")]
_MARK = "input_blocks.0.0.weight"


def is_adm(content: Mapping[str, Any]) -> bool:
    """Whether a dictionary looks like weights of such a network."""
    return _MARK in content


def network_of_adm(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Options of our U-Net, all that the names and shapes of the weights show: not the heads, nor dropout and the scale
    of time.

    where: names the file in messages. UserError for what is not a whole U-Net of images (classifiers, upsamplers), or
    is not built of such blocks.
    """
    if not any(name.startswith("output_blocks.") for name in state):
        raise UserError(
            f"{where} has no output_blocks: it is a classifier or another part of guided-diffusion, not a diffusion"
            " prior"
        )
    inputs, outputs = (_count(state, part) for part in ("input_blocks", "output_blocks"))
    ups = {
        int(found[1]): found[2]
        for name in state
        if (found := re.match(r"output_blocks\.(\d+)\.[12]\.(in_layers|conv)\.", name))
    }
    levels = len(ups) + 1
    blocks = min(ups, default=outputs - 1)
    if (
        outputs != levels * (blocks + 1)
        or inputs != levels * (blocks + 1)
        or sorted(ups) != [(k + 1) * (blocks + 1) - 1 for k in range(levels - 1)]
    ):
        raise UserError(
            f"{where}: {inputs} input blocks, {outputs} output blocks and upsampling in {sorted(ups)} do not make a"
            " U-Net of guided-diffusion"
        )
    first = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    widths = [_needed(state, f"{name}.0.out_layers.3.weight", where).shape[0] for name in first]
    channels, images = _needed(state, _MARK, where).shape[:2]
    if images not in (1, 3):
        raise UserError(
            f"{where} takes {images} channels: it is an upsampler or another conditional network, and a prior takes 1"
            " or 3"
        )
    return {
        "in_channels": images,
        "out_channels": _needed(state, "out.2.weight", where).shape[0],
        "channels": channels,
        "multipliers": multipliers_of(widths, channels),
        "blocks": blocks,
        "attention": [level for level, name in enumerate(first) if f"{name}.1.qkv.weight" in state],
        "groups": 32,
        "norm_eps": 1e-5,
        "num_classes": state["label_emb.weight"].shape[0] if "label_emb.weight" in state else None,
        "null_class": False,
        "time_condition": (
            "scale_shift"
            if _needed(state, "input_blocks.1.0.emb_layers.1.weight", where).shape[0] == 2 * widths[0]
            else "add"
        ),
        "resample": "residual" if "in_layers" in ups.values() else "conv",
        "downsample_padding": "both",
        "time_waves": "adm",
        "time_channels": _needed(state, "time_embed.0.weight", where).shape[1],
        "init": "zero",
    }


def names_of_adm(network: Mapping[str, Any]) -> dict[str, str]:
    """Their modules and ours for these options of our U-Net, {theirs: ours}; those that a network does not have (a
    skip, a label) among them.
    """
    names = dict(_ENDS)
    blocks, levels, residual = network["blocks"], len(network["multipliers"]), network["resample"] == "residual"

    def add(theirs: str, ours: str, parts: list[tuple[str, str]]) -> None:
        names.update({f"{theirs}.{a}": f"{ours}.{b}" for a, b in parts})

    def block(place: str, ours: str, level: int, j: int) -> None:
        add(f"{place}.0", f"{ours}.blocks.{j}", _BLOCK)
        if level in network["attention"]:
            add(f"{place}.1", f"{ours}.attentions.{j}", _ATTENTION)

    for level in range(levels):
        start = 1 + level * (blocks + 1)
        for j in range(blocks):
            block(f"input_blocks.{start + j}", f"down.{level}", level, j)
        if level < levels - 1:
            add(f"input_blocks.{start + blocks}.0", f"down.{level}.resample", _BLOCK if residual else [("op", "conv")])
    add("middle_block.0", "middle_block1", _BLOCK)
    add("middle_block.1", "middle_attention", _ATTENTION)
    add("middle_block.2", "middle_block2", _BLOCK)
    for k, level in enumerate(reversed(range(levels))):
        start = k * (blocks + 1)
        for j in range(blocks + 1):
            block(f"output_blocks.{start + j}", f"up.{k}", level, j)
        if level > 0:
            behind = 1 + (level in network["attention"])
            add(
                f"output_blocks.{start + blocks}.{behind}",
                f"up.{k}.resample",
                _BLOCK if residual else [("conv", "conv")],
            )
    return names


def state_dict_from_adm(
    state: Mapping[str, Tensor], *, network: Mapping[str, Any], expected: Mapping[str, Any], new_order: bool, where: str
) -> dict[str, Tensor]:
    """Our U-Net's weights from theirs, bit for bit and in their precision.

    network: all options of our U-Net, heads too. expected: the names of its weights. new_order: q, k and v of all heads
    stand together already (use_new_attention_order). UserError that names the first missing and the first unexpected
    key, in their names.
    """
    ours_of = names_of_adm(network)
    theirs_of = {ours: theirs for theirs, ours in ours_of.items()}
    wanted = {f"{theirs_of[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in expected}
    missing, unexpected = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or unexpected:
        told = [
            f"{what} '{names[0]}' ({len(names)} of them)"
            for what, names in (("it lacks", missing), ("it has the unexpected", unexpected))
            if names
        ]
        raise UserError(f"{where} is not a whole network of guided-diffusion: {', and '.join(told)}")
    found = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        target = f"{ours_of[module]}.{kind}"
        if target.endswith(("qkv.weight", "qkv.bias")) and not new_order:
            tensor = _heads_inside(tensor, _heads(tensor.shape[0] // 3, network))
        if target.endswith(("qkv.weight", "mix.weight")) and tensor.ndim < 4:
            tensor = tensor.reshape(*tensor.shape[:2], 1, 1)  # a one-dimensional convolution over positions
        found[target] = tensor
    return found


def _heads_inside(tensor: Tensor, heads: int) -> Tensor:
    """Rows [head, (q, k, v), channel] as [(q, k, v), head, channel]."""
    return tensor.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)


def _heads(width: int, network: Mapping[str, Any]) -> int:
    return width // network["head_channels"] if network.get("head_channels") else network["heads"]


def _count(state: Mapping[str, Tensor], part: str) -> int:
    return 1 + max(int(found[1]) for name in state if (found := re.match(rf"{part}\.(\d+)\.", name)))


def _needed(state: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    if name not in state:
        raise UserError(f"{where} lacks '{name}': it is not a whole network of guided-diffusion")
    return state[name]
