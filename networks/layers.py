"""Building blocks of the U-Net: time embedding, residual block, attention, change of resolution (Ho et al. 2020, appendix B).

Shapes: images and features [B, C, H, W], condition vectors [B, D].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def fitting_groups(groups: int, channels: int) -> int:
    """The largest number of groups, at most `groups`, that divides `channels`."""
    return next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)


def norm(channels: int, groups: int, eps: float) -> nn.GroupNorm:
    """Group normalisation; its statistics are summed in float32 for bfloat16 input too, on CPU and (by autocast) on CUDA."""
    return nn.GroupNorm(fitting_groups(groups, channels), channels, eps=eps)


def spread(layer: nn.Conv2d | nn.Linear, parts: int = 1) -> None:
    """w ~ U(-b, b), b = sqrt(3 / fan_avg), bias 0: Ho's variance scaling; `parts` fused layers each have their own fan."""
    for weight in layer.weight.detach().chunk(parts):
        nn.init.xavier_uniform_(weight)
    nn.init.zeros_(layer.bias)


def silence(layer: nn.Conv2d | nn.Linear) -> None:
    """w = 0, bias 0: a residual branch that starts as the identity (Ho scales it by 1e-10)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class TimeEmbedding(nn.Module):
    """e = W2 silu(W1 [sin(t f) | cos(t f)]), f_k = exp(-ln(10000) k / (half - 1)), half = `channels` / 2.

    Always in the precision of its weights, never in that of autocast: bfloat16 does not tell t = 998 from t = 999.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, width)
        spread(self.linear1)
        spread(self.linear2)

    def forward(self, time: Tensor) -> Tensor:
        half = self.channels // 2
        with torch.autocast(time.device.type, enabled=False):
            k = torch.arange(half, dtype=torch.float32, device=time.device)
            phase = time.float()[:, None] * torch.exp(-math.log(10000) * k / (half - 1))
            waves = torch.cat([phase.sin(), phase.cos()], dim=1).to(self.linear1.weight.dtype)
            return self.linear2(F.silu(self.linear1(waves)))


class ResidualBlock(nn.Module):
    """y = skip(x) + conv2(drop(silu(GN(conv1(silu(GN(x))) + W c)))).

    c is the condition vector after its SiLU; skip is a 1x1 convolution where channels change, otherwise the identity.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, *, groups: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.norm1 = norm(inputs, groups, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shift = nn.Linear(condition, outputs)
        self.norm2 = norm(outputs, groups, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        spread(self.conv1)
        spread(self.shift)
        silence(self.conv2)
        if inputs != outputs:
            spread(self.skip)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.shift(condition)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.skip(x) + h


class Attention(nn.Module):
    """y = x + W softmax(q' k / sqrt(d)) v over the H W positions, q | k | v = W_qkv GN(x), d = channels per head."""

    def __init__(self, channels: int, *, heads: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels, groups, eps)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.mix = nn.Conv2d(channels, channels, 1)
        spread(self.qkv, parts=3)
        silence(self.mix)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        # Views, in contiguous as in channels_last memory; in the latter channels end up with stride 1, as fast kernels want them.
        parts = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, C // self.heads))
        q, k, v = parts.transpose(-1, -2).unbind(1)  # [B, heads, H W, C / heads]
        h = F.scaled_dot_product_attention(q, k, v)
        h = h.transpose(-1, -2).reshape(B, C, H, W)
        return x + self.mix(h)


class Downsample(nn.Module):
    """Halves H and W by a 3x3 convolution of stride 2 that pads on the right and at the bottom only (TensorFlow's SAME, as in Ho)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)
        spread(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles H and W: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        spread(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
