"""The config of diffusers' UNet2DModel, unet/config.json, to and from the options of our U-Net."""

from collections.abc import Mapping
from typing import Any

from common.build import check_options
from common.errors import UserError, nearest
from networks.unet import UNet
from networks.unet_parts import level_widths, multipliers_of

# What a key that the config leaves out means (the defaults of UNet2DModel), and the values that our U-Net computes.
_ONLY: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "act_fn": ("silu", ("silu", "swish")),
    "center_input_sample": (False, (False,)),
    "class_embed_type": (None, (None,)),
    "downsample_padding": (1, (0, 1)),
    "downsample_type": ("conv", ("conv", "resnet")),
    "mid_block_scale_factor": (1, (1,)),
    "mid_block_type": ("UNetMidBlock2D", ("UNetMidBlock2D", None)),
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
_BLOCKS = {  # (attention, how it changes resolution; None: as downsample_type and upsample_type say)
    "down_block_types": {
        "DownBlock2D": (False, "conv"),
        "ResnetDownsampleBlock2D": (False, "resnet"),
        "AttnDownBlock2D": (True, None),
    },
    "up_block_types": {
        "UpBlock2D": (False, "conv"),
        "ResnetUpsampleBlock2D": (False, "resnet"),
        "AttnUpBlock2D": (True, None),
    },
}


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
    full = _DEFAULTS | {k: default for k, (default, _) in _ONLY.items()} | given
    middle = full["mid_block_type"] is not None
    for key, (_, implemented) in _ONLY.items():
        if full[key] not in implemented and (middle or key != "mid_block_scale_factor"):
            told = "" if key in given else " (diffusers' default, the config does not say)"
            raise _refused(
                key, f"{full[key]!r}{told}", f"only {' or '.join(repr(v) for v in implemented)} can be converted"
            )

    widths = [int(w) for w in full["block_out_channels"]]
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
    bottom = middle and bool(full["add_attention"])
    # Of the middle attention: not given means the others' groups, but with scale and shift no normalisation at all.
    if bottom and full["attn_norm_num_groups"] != groups and (modulated or full["attn_norm_num_groups"] is not None):
        raise _refused(
            "attn_norm_num_groups", full["attn_norm_num_groups"], f"it must be that of norm_num_groups, {groups}"
        )
    residual = _resample(full, len(widths)) == "resnet"
    down, up = (
        sorted(i for i, (has, _) in enumerate(blocks) if has)
        for blocks in (_blocks(full, "down", len(widths)), _blocks(full, "up", len(widths))[::-1])
    )
    attended = {widths[i] for i in (*down, *up)} | ({widths[-1]} if bottom else set())
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
        "multipliers": multipliers_of(widths, widths[0]),
        "blocks": full["layers_per_block"],
        "attention": down,
        "middle_attention": bool(full["add_attention"]),
        **({"heads": heads.pop()} if len(heads) == 1 else {"head_channels": head_dim}),
        "groups": groups,
        "dropout": full["dropout"],
        "norm_eps": full["norm_eps"],
        **({"time_condition": "scale_shift"} if modulated else {}),
        **({"resample": "residual"} if residual else {}),
        **({"downsample_padding": "both"} if full["downsample_padding"] == 1 and not residual else {}),
        **({"time_waves": waves} if waves != "ho" else {}),
        **({} if middle else {"middle": False}),
        **({"up_attention_levels": up} if up != down else {}),
    }


def _blocks(full: Mapping[str, Any], way: str, levels: int) -> list[tuple[bool, str]]:
    """(attention, how it changes resolution) of every block of the way "down" or "up", in the order of execution."""
    key, others = f"{way}_block_types", full[f"{way}sample_type"]
    # "UNetRes..." are their names in the first releases.
    types = [str(t).removeprefix("UNetRes") for t in full[key]]
    if len(types) != levels or any(t not in _BLOCKS[key] for t in types):
        raise _refused(
            key,
            list(full[key]),
            f"only {levels} of {' and '.join(_BLOCKS[key])}, one per width of block_out_channels, can be converted",
        )
    return [(has, change or others) for has, change in (_BLOCKS[key][t] for t in types)]


def _resample(full: Mapping[str, Any], levels: int) -> str:
    """How all blocks change resolution, "conv" or "resnet"; the last one of each way does not."""
    found = {change for way in ("down", "up") for _, change in _blocks(full, way, levels)[:-1]} or {"conv"}
    if len(found) > 1:
        raise _refused(
            "down_block_types",
            f"{list(full['down_block_types'])}, up_block_types={list(full['up_block_types'])},"
            f" downsample_type={full['downsample_type']!r} and upsample_type={full['upsample_type']!r}",
            "some blocks change resolution with a convolution and some with a residual block, and our U-Net does it in"
            " one way at all levels",
        )
    return found.pop()


def _refused(key: str, value: Any, reason: str) -> UserError:
    return UserError(f"the diffusers config has {key}={value}: {reason}")


def unet_to_diffusers(network: UNet, *, size: tuple[int, int]) -> dict[str, Any]:
    """The config of the UNet2DModel that computes what `network` computes, for pictures of `size` (H, W).

    UserError that names the option that UNet2DModel does not have.
    """
    full = check_options(UNet, network.spec["init_args"], where="the network")
    widths = level_widths(full["channels"], full["multipliers"])
    groups, residual = full["groups"], full["resample"] == "residual"
    up_levels = full["attention"] if full["up_attention_levels"] is None else full["up_attention_levels"]
    down, up = ([i in chosen for i in range(len(widths))] for chosen in (full["attention"], up_levels))
    bottom = full["middle"] and full["middle_attention"]
    refused = {
        "patch": (full["patch"] != 1, "folds pixels into channels"),
        "num_classes": (full["num_classes"] is not None, "DDPMPipeline gives no labels"),
        "resample": (full["resample"] == "projected", "has a convolution on the skip of blocks that change resolution"),
        "up_attention": (
            full["up_attention"] != "all" and any(up),
            "leaves attention out on the way up",
        ),
        "skip_scale": (full["skip_scale"] != 1, "scales the sums of branch and skip"),
        "time_channels": (full["time_channels"] not in (None, full["channels"]), "has its own number of waves of time"),
        "time_scale": (full["time_scale"] != 1, "scales the time"),
        "groups": (any(w % groups for w in widths), f"does not divide the widths {widths}"),
        "multipliers": (
            any(s % network.multiple for s in size),
            f"pads pictures of {size[1]}x{size[0]} pixels to multiples of {network.multiple}",
        ),
    }
    for name, (wrong, reason) in refused.items():
        if wrong:
            raise UserError(
                f"the network has {name}={full[name]}, which diffusers' UNet2DModel cannot do: it {reason}; export it"
                " as .safetensors instead"
            )
    kinds = {
        "down": ("ResnetDownsampleBlock2D" if residual else "DownBlock2D", "AttnDownBlock2D"),
        "up": ("ResnetUpsampleBlock2D" if residual else "UpBlock2D", "AttnUpBlock2D"),
    }
    modulated = full["time_condition"] == "scale_shift"
    adm = full["time_waves"] == "adm"
    return {
        "_class_name": "UNet2DModel",
        "sample_size": size[0] if size[0] == size[1] else list(size),
        "in_channels": network.in_channels,
        "out_channels": network.out_channels,
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": 0 if adm else 1,
        "flip_sin_to_cos": adm,
        "down_block_types": [kinds["down"][has] for has in down],
        "up_block_types": [kinds["up"][has] for has in reversed(up)],
        "block_out_channels": widths,
        "layers_per_block": full["blocks"],
        "mid_block_scale_factor": 1,
        "downsample_padding": 1 if full["downsample_padding"] == "both" and not residual else 0,
        "downsample_type": "resnet" if residual else "conv",
        "upsample_type": "resnet" if residual else "conv",
        "dropout": full["dropout"],
        "act_fn": "silu",
        "attention_head_dim": _head_dim(
            full, {w for i, w in enumerate(widths) if down[i] or up[i]} | ({widths[-1]} if bottom else set())
        ),
        "norm_num_groups": groups,
        # With scale and shift diffusers leaves this normalisation out unless it is told.
        "attn_norm_num_groups": groups if modulated and bottom else None,
        "norm_eps": full["norm_eps"],
        "resnet_time_scale_shift": "scale_shift" if modulated else "default",
        "add_attention": bool(full["middle_attention"]),
        # Only where it is another than its default, which earlier versions of diffusers do not know by name.
        **({} if full["middle"] else {"mid_block_type": None}),
    }


def _head_dim(full: dict[str, Any], attended: set[int]) -> int | None:
    """Channels of a head; None is one head of all channels."""
    if full["head_channels"] is not None:
        return full["head_channels"]
    if full["heads"] == 1 or not attended:
        return None
    if len(attended) > 1:
        raise UserError(
            f"the network has heads={full['heads']} in attentions of widths {sorted(attended)}, and diffusers'"
            " UNet2DModel can only have heads of one width: export it as .safetensors instead, or train it with"
            " head_channels"
        )
    return attended.pop() // full["heads"]
