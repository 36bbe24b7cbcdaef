"""The hourglass with skip connections of the deep image prior: Ulyanov et al. 2018 (1711.10925)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.untrained.base import Architecture, UntrainedNetwork
from networks.untrained.layers import Conv, Norm

SLOPE = 0.2  # of the leaky ReLU

#: Settings of the released notebooks, and one for images of 28 to 64 pixels, whose deepest of five scales would have 1
#: or 2 pixels.
PRESETS = {
    "denoising": {"channels": [128] * 5, "skip": [4] * 5},
    "jpeg": {"channels": [8, 16, 32, 64, 128], "skip": [0, 0, 0, 4, 4], "inputs": 3},
    "text_inpainting": {"channels": [128] * 5, "skip": [128] * 5, "upsampling": "nearest"},
    "region_inpainting": {"channels": [128] * 5, "skip": [0] * 5, "upsampling": "nearest", "inputs": 2},
    "large_hole_inpainting": {
        "channels": [16, 32, 64, 128, 128, 128],
        "skip": [0] * 6,
        "upsampling": "nearest",
        "inputs": 1,
        "kernel_down": 5,
        "mix_after_up": False,
    },
    "sparse_pixels": {"channels": [16, 32, 64, 128, 128], "skip": [0] * 5, "downsampling": "average"},
    "small": {"channels": [32, 64, 64], "skip": [4] * 3},
}


class SkipArchitecture(Architecture):
    """u = sigmoid(W h_0), h_s = up_s(concat[skip_s(x), upsample(h_{s+1}(down_s(x)))]) over the scales s: an encoder and
    decoder with thin skips.

    A scale: down = 3x3 convolution of stride 2, 3x3 convolution; skip = 1x1 convolution (absent at 0 channels); up =
    norm, 3x3 convolution, 1x1 convolution; each convolution followed by norm and leaky ReLU 0.2. Ulyanov et al.
    2018, supplementary material; reference implementation's settings.

    Args:
        preset: "denoising" (super-resolution and restoration of half the pixels too), "jpeg", "text_inpainting",
            "region_inpainting", "large_hole_inpainting", "sparse_pixels", "small" (28 to 64 pixels); every other option
            that is not null replaces the preset's.
        channels: of each scale on the way down, finest first.
        channels_up: of each scale on the way up, finest first; null: as down.
        skip: channels of the skip branches.
        inputs: channels of z.
        upsampling: of the decoder.
        downsampling: stride of the convolution, or a convolution and then pooling.
        kernel_down: side of the spatial convolutions on the way down, odd.
        kernel_up: side of the spatial convolutions on the way up, odd.
        mix_after_up: the 1x1 convolution.
        padding: of all of them.

    Raises:
        ValueError: lists of unequal length.
    """

    def __init__(
        self,
        *,
        preset: Literal[
            "denoising",
            "jpeg",
            "text_inpainting",
            "region_inpainting",
            "large_hole_inpainting",
            "sparse_pixels",
            "small",
        ] = "denoising",
        channels: list[int] | None = None,
        channels_up: list[int] | None = None,
        skip: list[int] | None = None,
        inputs: int | None = None,
        upsampling: Literal["bilinear", "nearest"] | None = None,
        downsampling: Literal["stride", "average", "max"] | None = None,
        kernel_down: int | None = None,
        kernel_up: int | None = None,
        mix_after_up: bool | None = None,
        padding: Literal["reflection", "zero"] | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got '{preset}'")
        defaults = {
            "inputs": 32,
            "upsampling": "bilinear",
            "downsampling": "stride",
            "kernel_down": 3,
            "kernel_up": 3,
            "mix_after_up": True,
        }
        defaults["padding"] = "reflection"
        given = {
            "channels": channels,
            "skip": skip,
            "inputs": inputs,
            "upsampling": upsampling,
            "downsampling": downsampling,
            "kernel_down": kernel_down,
        }
        given |= {"kernel_up": kernel_up, "mix_after_up": mix_after_up, "padding": padding}
        chosen = {**defaults, **PRESETS[preset], **{k: v for k, v in given.items() if v is not None}}
        if channels is not None and skip is None:
            chosen["skip"] = [PRESETS[preset]["skip"][-1]] * len(channels)
        self.channels, self.channels_up, self.skip = (
            list(chosen["channels"]),
            list(channels_up or chosen["channels"]),
            list(chosen["skip"]),
        )
        if not self.channels or {len(self.channels_up), len(self.skip)} != {len(self.channels)}:
            raise ValueError(
                f"channels, channels_up and skip must have one entry per scale, got {len(self.channels)},"
                f" {len(self.channels_up)} and {len(self.skip)}"
            )
        if min(self.channels + self.channels_up) < 1 or min(self.skip) < 0 or chosen["inputs"] < 1:
            raise ValueError(
                f"channels and inputs must be at least 1, skip at least 0, got {self.channels}, {chosen['inputs']},"
                f" {self.skip}"
            )
        self.inputs, self.upsampling, self.downsampling = chosen["inputs"], chosen["upsampling"], chosen["downsampling"]
        self.kernel_down, self.kernel_up, self.mix_after_up, self.padding = (
            chosen[k] for k in ("kernel_down", "kernel_up", "mix_after_up", "padding")
        )
        self.multiple = 2 ** len(self.channels)
        # The deepest convolutions see H / multiple pixels: reflection needs more than its margin, statistics more than
        # one.
        self.least = self.multiple * (max(2, self.kernel_down // 2 + 1) if self.padding == "reflection" else 2)

    def build(self, *, outputs: int, copies: int = 1) -> "SkipNetwork":
        return SkipNetwork(self, outputs, copies)


class SkipNetwork(UntrainedNetwork):
    """What :class:`SkipArchitecture` builds."""

    def __init__(self, recipe: SkipArchitecture, outputs: int, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.scales = _Scale(recipe, 0, recipe.inputs, copies)
        self.last = Conv(copies, recipe.channels_up[0], outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.scales(z)))


class _Block(nn.Sequential):
    """Convolution, norm, leaky ReLU."""

    def __init__(
        self, recipe: SkipArchitecture, copies: int, inputs: int, outputs: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__(
            Conv(copies, inputs, outputs, kernel, stride=stride, padding=recipe.padding),
            Norm(copies, outputs),
            nn.LeakyReLU(SLOPE, inplace=True),
        )


class _Scale(nn.Module):
    def __init__(self, recipe: SkipArchitecture, scale: int, inputs: int, copies: int) -> None:
        super().__init__()
        down, up, skip = recipe.channels[scale], recipe.channels_up[scale], recipe.skip[scale]
        deepest = scale == len(recipe.channels) - 1
        self.upsampling = recipe.upsampling
        self.skip = _Block(recipe, copies, inputs, skip, 1) if skip else None
        pools = {"stride": nn.Identity(), "average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}
        first = _Block(recipe, copies, inputs, down, recipe.kernel_down, 2 if recipe.downsampling == "stride" else 1)
        first.insert(1, pools[recipe.downsampling])
        self.down = nn.Sequential(first, _Block(recipe, copies, down, down, recipe.kernel_down))
        self.deeper = nn.Identity() if deepest else _Scale(recipe, scale + 1, down, copies)
        width = skip + (down if deepest else recipe.channels_up[scale + 1])
        self.up = nn.Sequential(Norm(copies, width), _Block(recipe, copies, width, up, recipe.kernel_up))
        if recipe.mix_after_up:
            self.up.append(_Block(recipe, copies, up, up, 1))

    def forward(self, x: Tensor) -> Tensor:
        below = self.deeper(self.down(x))
        options = {"align_corners": False} if self.upsampling == "bilinear" else {}
        below = F.interpolate(below, scale_factor=2.0, mode=self.upsampling, **options)
        return self.up(below if self.skip is None else torch.cat([self.skip(x), below], 1))
