"""Which options of the U-Net go together: UserError, in one sentence, for those that do not."""

import math
from collections.abc import Sequence

from torch import Tensor

from common.errors import UserError
from networks.unet_parts import level_widths


def check_sizes(
    *,
    in_channels: int,
    out_channels: int,
    channels: int,
    multipliers: Sequence[float],
    blocks: int,
    patch: int,
    attention: Sequence[int],
    bottom_attention: bool,
    heads: int,
    groups: int,
    dropout: float,
    num_classes: int | None,
    head_channels: int | None,
) -> None:
    """Widths, depths, heads and attention levels, those of both ways together."""
    sizes = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "blocks": blocks,
        "heads": heads,
        "groups": groups,
    }
    sizes |= {"patch": patch} | ({} if num_classes is None else {"num_classes": num_classes})
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"{name} of the U-Net must be at least 1, got {value}")
    if channels < 4 or channels % 2:
        raise UserError(f"channels of the U-Net must be even and at least 4, got {channels}")
    if not multipliers:
        raise UserError("multipliers of the U-Net must name at least one level, got []")
    for i, m in enumerate(multipliers):
        width = channels * m
        if not 1 <= width < math.inf or abs(width - round(width)) > 1e-6:
            raise UserError(
                f"multipliers[{i}] of the U-Net must make a whole width of at least 1 of its {channels} channels, got"
                f" {m}, which makes {width:g}"
            )
    if not 0 <= dropout < 1:
        raise UserError(f"dropout of the U-Net must be in [0, 1), got {dropout}")
    for i in attention:
        if not 0 <= i < len(multipliers):
            raise UserError(
                f"attention level {i} does not exist: the U-Net has {len(multipliers)} levels, 0 to"
                f" {len(multipliers) - 1}"
            )
    if head_channels is not None and (head_channels < 1 or heads != 1):
        raise UserError(
            "head_channels of the U-Net must be at least 1 and stands instead of heads, got"
            f" head_channels={head_channels} and heads={heads}"
        )
    widths = level_widths(channels, multipliers)
    attended = {widths[i] for i in attention} | ({widths[-1]} if bottom_attention else set())
    for width in sorted(attended):
        if width % (head_channels or heads):
            name = "heads" if head_channels is None else "head_channels"
            raise UserError(
                f"{name} must divide the {width} channels of every attention of the U-Net, got"
                f" {name}={head_channels or heads}"
            )


def check_style(time_condition: str, resample: str, up_attention: str, skip_scale: float, init: str) -> None:
    """The named choices, and the factor of every sum."""
    choices = {
        "time_condition": (time_condition, ("add", "scale_shift")),
        "resample": (resample, ("conv", "residual", "projected")),
        "up_attention": (up_attention, ("all", "last")),
        "init": (init, ("ho", "zero", "edm")),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name} of the U-Net must be one of {', '.join(known)}, got '{value}'")
    if not 0 < skip_scale <= 1:
        raise UserError(f"skip_scale of the U-Net must lie in (0, 1], got {skip_scale}")


def check_time(downsample_padding: str, time_waves: str, time_channels: int, time_scale: float) -> None:
    """How the time is embedded, and how the resolution is halved."""
    if downsample_padding not in ("end", "both"):
        raise UserError(f"downsample_padding of the U-Net must be end or both, got '{downsample_padding}'")
    if time_waves not in ("ho", "adm"):
        raise UserError(f"time_waves of the U-Net must be ho or adm, got '{time_waves}'")
    if time_channels < 4 or time_channels % 2:
        raise UserError(f"time_channels of the U-Net must be even and at least 4, got {time_channels}")
    if not 0 < time_scale < float("inf"):
        raise UserError(f"time_scale of the U-Net must be positive and finite, got {time_scale}")


def check_input(x: Tensor, time: Tensor, label: Tensor | None, *, in_channels: int, num_classes: int | None) -> None:
    """What a U-Net is given; ValueError."""
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"expected images [B, {in_channels}, H, W], got {list(x.shape)}")
    if time.shape != x.shape[:1] and time.shape != (len(x), 1, *x.shape[2:]):
        raise ValueError(
            f"expected one time per image, shape [{len(x)}], or one per pixel, shape"
            f" {[len(x), 1, *x.shape[2:]]}, got {list(time.shape)}"
        )
    if label is not None and num_classes is None:
        raise ValueError("got labels, but this network was built without classes (num_classes=None); pass label=None")
    if label is not None and label.shape != x.shape[:1]:
        raise ValueError(f"expected one label per image, shape [{x.shape[0]}], got {list(label.shape)}")
