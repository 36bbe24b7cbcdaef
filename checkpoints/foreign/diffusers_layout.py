"""Weights of diffusers' UNet2DModel, as in google/ddpm-cifar10-32, to and from our U-Net: one function, the same
numbers under other names.

diffusers itself is not needed. Queries, keys and values are three linear layers there and one 1x1 convolution here.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError, nearest
from networks.unet import UNet

# What a key that the config leaves out means (the defaults of UNet2DModel), and the values that our U-Net computes.
_ONLY: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "act_fn": ("silu", ("silu", "swish")),
    "center_input_sample": (False, (False,)),
    "class_embed_type": (None, (None,)),
    "downsample_padding": (1, (0, 1)),
    "downsample_type": ("conv", ("conv", "resnet")),
    "mid_block_scale_factor": (1, (1,)),
    "mid_block_type": ("UNetMidBlock2D", ("UNetMidBlock2D",)),
    "num_class_embeds": (None, (None,)),  # diffusers has no row for "no class"
    "resnet_time_scale_shift": ("default", ("default", "scale_shift")),
    "time_embedding_type": ("positional", ("positional",)),
    "upsample_type": ("conv", ("conv", "resnet")),
}
_DEFAULTS: dict[str, Any] = {
    "add_attention": True,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 2,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_dim": None,
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
# The last seven are what diffusers' EMAModel writes into the config of averaged weights.
_WITHOUT_EFFECT = {
    "sample_size",
    "num_train_timesteps",
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
}
_WAVES = {(False, 1): "ho", (True, 0): "adm"}  # (flip_sin_to_cos, freq_shift)

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


def unet_from_diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the U-Net that computes what a UNet2DModel of this config computes.

    A key that is left out means diffusers' default, not the value of the released model: several of those defaults are
    other functions with weights of the same shapes.

    Args:
        config: unet/config.json, or `dict(model.config)`.

    Raises:
        UserError: names the first key and value that our U-Net does not implement.
    """
    given = {k: v for k, v in config.items() if not k.startswith("_") and k not in _WITHOUT_EFFECT}
    for key in given:
        if key not in _ONLY and key not in _DEFAULTS:
            raise _refused(
                key,
                repr(given[key]),
                f"this key is not known{nearest(key, [*_ONLY, *_DEFAULTS])} and cannot be converted",
            )
    for key, (default, implemented) in _ONLY.items():
        value = given.get(key, default)
        if value not in implemented:
            told = "" if key in given else " (diffusers' default, the config does not say)"
            raise _refused(
                key, f"{value!r}{told}", f"only {' or '.join(repr(v) for v in implemented)} can be converted"
            )
    full = _DEFAULTS | {k: default for k, (default, _) in _ONLY.items()} | given

    widths = [int(w) for w in full["block_out_channels"]]
    if any(w % widths[0] for w in widths):
        raise _refused("block_out_channels", widths, "every width must be a multiple of the first")
    if full["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise _refused(
            "time_embedding_dim",
            full["time_embedding_dim"],
            f"only four times the first width, {4 * widths[0]}, will do",
        )
    groups = full["norm_num_groups"]
    if groups is None or any(w % groups for w in widths):
        raise _refused("norm_num_groups", groups, f"it must divide the widths {widths}")

    modulated = full["resnet_time_scale_shift"] == "scale_shift"
    # Of the middle attention: not given means the others' groups, but with scale and shift no normalisation at all.
    if (
        full["attn_norm_num_groups"] != groups
        and (modulated or full["attn_norm_num_groups"] is not None)
        and full["add_attention"]
    ):
        raise _refused(
            "attn_norm_num_groups", full["attn_norm_num_groups"], f"it must be that of norm_num_groups, {groups}"
        )
    types = {
        "down": ("DownBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up": ("UpBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D"),
    }
    # A block with attention changes resolution as down/upsample_type says, one without as its own name says: all of a
    # network must do it in one way.
    residual = "resnet" in (full["downsample_type"], full["upsample_type"])
    if full["downsample_type"] != full["upsample_type"]:
        raise _refused(
            "upsample_type", full["upsample_type"], f"it must be that of downsample_type, {full['downsample_type']!r}"
        )
    down, up = (
        _has_attention(full, f"{k}_block_types", {plain[residual]: False, plain[2]: True}, len(widths))
        for k, plain in types.items()
    )
    if up[::-1] != down:
        raise _refused(
            "up_block_types",
            list(full["up_block_types"]),
            "attention must be at the same resolutions as in down_block_types",
        )
    attention = [i for i, has in enumerate(down) if has]
    attended = {widths[i] for i in attention} | ({widths[-1]} if full["add_attention"] else set())
    head_dim = full["attention_head_dim"]
    if head_dim is not None and (head_dim < 1 or any(w % head_dim for w in attended)):
        raise _refused(
            "attention_head_dim", head_dim, f"it must divide the widths of all attentions, {sorted(attended)}"
        )
    heads = {1 if head_dim is None else width // head_dim for width in attended} or {1}
    waves = _WAVES.get((bool(full["flip_sin_to_cos"]), int(full["freq_shift"])))
    if waves is None:
        raise _refused(
            "flip_sin_to_cos",
            f"{full['flip_sin_to_cos']} and freq_shift={full['freq_shift']}",
            "only False with 1 or True with 0 can be converted",
        )

    return {
        "in_channels": full["in_channels"],
        "out_channels": full["out_channels"],
        "channels": widths[0],
        "multipliers": [w // widths[0] for w in widths],
        "blocks": full["layers_per_block"],
        "attention": attention,
        "middle_attention": bool(full["add_attention"]),
        **({"heads": heads.pop()} if len(heads) == 1 else {"head_channels": head_dim}),
        "groups": groups,
        "dropout": full["dropout"],
        "norm_eps": full["norm_eps"],
        **({"time_condition": "scale_shift"} if modulated else {}),
        **({"resample": "residual"} if residual else {}),
        **({"downsample_padding": "both"} if full["downsample_padding"] == 1 and not residual else {}),
        **({"time_waves": waves} if waves != "ho" else {}),
    }


def state_dict_from_diffusers(
    state_dict: Mapping[str, Tensor], *, config: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Our U-Net's weights from those of a UNet2DModel, bit for bit and in their precision; attention under its old
    names is read too.

    config: where given, every key and shape is checked against the network of :func:`unet_from_diffusers`.
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


def _has_attention(config: dict[str, Any], key: str, kinds: dict[str, bool], levels: int) -> list[bool]:
    types = list(config[key])
    if len(types) != levels or any(t not in kinds for t in types):
        raise _refused(
            key, types, f"only {levels} of {' and '.join(kinds)}, one per width of block_out_channels, can be converted"
        )
    return [kinds[t] for t in types]


def _refused(key: str, value: Any, reason: str) -> UserError:
    return UserError(f"the diffusers config has {key}={value}: {reason}")


def _complain(what: str, names: list[str]) -> None:
    """UserError with the first names and how many there are."""
    if names:
        names = sorted(set(names))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(f"the weights are not those of the expected U-Net, {what}: {', '.join(names[:5])}{more}")
