"""The U-Net that the deep image prior's authors compare with on large holes: Ulyanov et al. 2018 (1711.10925), after
Ronneberger et al. 2015.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.untrained.base import Architecture, UntrainedNetwork
from networks.untrained.layers import Conv


class UNetArchitecture(Architecture):
    """u = sigmoid(W h_0), h_s = pair_s(concat[up_s(h_{s+1}), e_s]), e_s = pair_s'(maxpool(e_{s-1})): full skips, an
    encoder as wide as the decoder.

    A pair: twice 3x3 convolution, norm without parameters, ReLU. up: transposed convolution 4x4 of stride 2, or
    interpolation and a 3x3 convolution. The defaults are the published ones for the large hole of "library"
    (learning rate 0.001, no jitter), where skips copy the input's noise: it fits faster, and stops less well.

    Args:
        channels: of each scale, finest first.
        inputs: channels of z.
        upsampling: of the decoder.
        padding: of all convolutions.

    Raises:
        ValueError: numbers below 1.
    """

    def __init__(
        self,
        *,
        channels: list[int] | None = None,
        inputs: int = 1,
        upsampling: Literal["deconvolution", "bilinear", "nearest"] = "deconvolution",
        padding: Literal["zero", "reflection"] = "zero",
    ) -> None:
        self.channels = [8, 16, 32, 64, 128, 128] if channels is None else list(channels)
        if not self.channels or min(*self.channels, inputs, 1) < 1:
            raise ValueError(
                f"channels and inputs must be at least 1, and one scale must be, got {self.channels} and {inputs}"
            )
        if upsampling not in ("deconvolution", "bilinear", "nearest"):
            raise ValueError(f"upsampling must be deconvolution, bilinear or nearest, got '{upsampling}'")
        if padding not in ("reflection", "zero"):
            raise ValueError(f"padding must be reflection or zero, got '{padding}'")
        self.inputs, self.upsampling, self.padding = inputs, upsampling, padding
        self.multiple = 2 ** (len(self.channels) - 1)
        self.least = 2 * self.multiple  # the statistics of the deepest scale need more than one pixel

    def build(self, *, outputs: int, copies: int = 1) -> "UntrainedUNet":
        return UntrainedUNet(self, outputs, copies)


class UntrainedUNet(UntrainedNetwork):
    """What :class:`UNetArchitecture` builds."""

    def __init__(self, recipe: UNetArchitecture, outputs: int, copies: int) -> None:
        super().__init__()
        self.copies = copies
        widths = recipe.channels
        self.downs = nn.ModuleList(
            _Pair(recipe, copies, a, b) for a, b in zip([recipe.inputs, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(_Up(recipe, copies, below, here) for here, below in pairwise(widths))
        self.last = Conv(copies, widths[0], outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        encoded = []
        for scale, down in enumerate(self.downs):
            z = down(F.max_pool2d(z, 2) if scale else z)
            encoded.append(z)
        for up, skip in zip(reversed(self.ups), reversed(encoded[:-1]), strict=True):
            z = up(z, skip)
        return self.last(z).sigmoid()


class _Pair(nn.Module):
    def __init__(self, recipe: UNetArchitecture, copies: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Conv(copies, inputs, outputs, 3, padding=recipe.padding)
        self.second = Conv(copies, outputs, outputs, 3, padding=recipe.padding)

    def forward(self, x: Tensor) -> Tensor:
        # Each channel of each copy by its own mean and variance: independent of the neighbours as it is.
        for conv in (self.first, self.second):
            x = F.instance_norm(conv(x)).relu()
        return x


class _Up(nn.Module):
    def __init__(self, recipe: UNetArchitecture, copies: int, below: int, here: int) -> None:
        super().__init__()
        self.mode = None if recipe.upsampling == "deconvolution" else recipe.upsampling
        self.up = (
            Deconv(copies, below, here) if self.mode is None else Conv(copies, below, here, 3, padding=recipe.padding)
        )
        self.pair = _Pair(recipe, copies, 2 * here, here)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.mode is not None:
            x = F.interpolate(
                x, scale_factor=2.0, mode=self.mode, **({"align_corners": False} if self.mode == "bilinear" else {})
            )
        return self.pair(torch.cat([self.up(x), skip], 1))


class Deconv(Conv):
    """Transposed convolution 4x4 of stride 2 for the copies k: x [K, in, H, W] to [K, out, 2 H, 2 W]; weight [K in,
    out, 4, 4], set as torch's default.
    """

    def __init__(self, copies: int, inputs: int, outputs: int) -> None:
        super().__init__(copies, inputs, outputs, 4, padding="zero")
        self.weight = nn.Parameter(torch.zeros(copies * inputs, outputs, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        y = F.conv_transpose2d(
            x.reshape(1, -1, height, width), self.weight, self.bias, stride=2, padding=1, groups=self.copies
        )
        return y.reshape(self.copies, -1, 2 * height, 2 * width)
