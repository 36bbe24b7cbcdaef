"""unet/config.json of a U-Net of ours: the inverse of checkpoints/foreign/diffusers_layout.unet_from_diffusers."""

from typing import Any

from common.build import check_options
from common.errors import UserError
from networks.unet import UNet


def unet_to_diffusers(network: UNet, *, size: tuple[int, int]) -> dict[str, Any]:
    """The config of the UNet2DModel that computes what `network` computes, for pictures of `size` (H, W).

    UserError that names the option that UNet2DModel does not have.
    """
    full = check_options(UNet, network.spec["init_args"], where="the network")
    widths = [full["channels"] * m for m in full["multipliers"]]
    levels, groups, residual = len(widths), full["groups"], full["resample"] == "residual"
    refused = {
        "patch": (full["patch"] != 1, "folds pixels into channels"),
        "num_classes": (full["num_classes"] is not None, "DDPMPipeline gives no labels"),
        "resample": (full["resample"] == "projected", "has a convolution on the skip of blocks that change resolution"),
        "up_attention": (
            full["up_attention"] != "all" and bool(full["attention"]),
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
    attention = [i in full["attention"] for i in range(levels)]
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
        "down_block_types": [kinds["down"][has] for has in attention],
        "up_block_types": [kinds["up"][has] for has in reversed(attention)],
        "block_out_channels": widths,
        "layers_per_block": full["blocks"],
        "mid_block_scale_factor": 1,
        "downsample_padding": 1 if full["downsample_padding"] == "both" and not residual else 0,
        "downsample_type": "resnet" if residual else "conv",
        "upsample_type": "resnet" if residual else "conv",
        "dropout": full["dropout"],
        "act_fn": "silu",
        "attention_head_dim": _head_dim(
            full, {w for w, has in zip(widths, attention, strict=True) if has} | _middle(full, widths)
        ),
        "norm_num_groups": groups,
        # With scale and shift diffusers leaves this normalisation out unless it is told.
        "attn_norm_num_groups": groups if modulated and full["middle_attention"] else None,
        "norm_eps": full["norm_eps"],
        "resnet_time_scale_shift": "scale_shift" if modulated else "default",
        "add_attention": bool(full["middle_attention"]),
    }


def _middle(full: dict[str, Any], widths: list[int]) -> set[int]:
    return {widths[-1]} if full["middle_attention"] else set()


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
