"""The deep decoder: so few parameters that it cannot fit noise. Heckel and Hand 2018 (1810.03982)."""

from torch import Tensor, nn
from torch.nn import functional as F

from networks.untrained.base import Architecture, UntrainedNetwork
from networks.untrained.layers import Conv, Norm


class DeepDecoderArchitecture(Architecture):
    """B_{i+1} = cn(relu(U (C_i B_i))), i = 0 .. s, u = sigmoid(C B_{s+1}): 1x1 convolutions C_i, bilinear upsampling U
    (none at i = s), normed channels cn.

    No spatial convolution but the upsampling, no bias. B_0 = every 2^s-th value of z along H and W. The input is
    constant as published: where a fit names no jitter it has none. Heckel and Hand 2018 (1810.03982): 128 channels,
    s = 5 for 512 x 512 pixels, 100 224 parameters.

    Args:
        channels: of all layers.
        scales: s, how often the size is doubled.
        inputs: channels of z; null for `channels`.

    Raises:
        ValueError: where one is below 1.
    """

    jitter = 0.0

    def __init__(self, *, channels: int = 128, scales: int = 5, inputs: int | None = None) -> None:
        if min(channels, scales, 1 if inputs is None else inputs) < 1:
            raise ValueError(f"channels, scales and inputs must be at least 1, got {channels}, {scales} and {inputs}")
        self.channels, self.scales, self.inputs = channels, scales, inputs or channels
        self.multiple = 2**scales
        # a map of one pixel is constant when it is upsampled, and its normed channels say nothing
        self.least = 2 * self.multiple

    def build(self, *, outputs: int, copies: int = 1) -> "DeepDecoder":
        return DeepDecoder(self, outputs, copies)


class DeepDecoder(UntrainedNetwork):
    """What :class:`DeepDecoderArchitecture` builds."""

    def __init__(self, recipe: DeepDecoderArchitecture, outputs: int, copies: int) -> None:
        super().__init__()
        self.copies, self.scales, self.multiple = copies, recipe.scales, recipe.multiple
        widths = [recipe.inputs] + [recipe.channels] * recipe.scales
        self.mixes = nn.ModuleList(Conv(copies, width, recipe.channels, 1, bias=False) for width in widths)
        self.norms = nn.ModuleList(Norm(copies, recipe.channels) for _ in widths)
        self.last = Conv(copies, recipe.channels, outputs, 1, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        x = z[..., :: self.multiple, :: self.multiple]
        for scale, (mix, norm) in enumerate(zip(self.mixes, self.norms, strict=True)):
            x = mix(x)
            if scale < self.scales:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = norm(x.relu())
        return self.last(x).sigmoid()
