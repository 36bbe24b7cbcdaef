"""Building blocks of the U-Net: time embedding, residual block, attention, change of resolution (Ho et al. 2020,
appendix B).

Shapes: images and features [B, C, H, W], condition vectors [B, D], or [B, D, H, W] where every pixel has its own.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def per_pixel(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of vectors at every pixel: [B, D, H, W] to [B, D', H, W]."""
    return layer(x.movedim(1, -1)).movedim(-1, 1)


def fitting_groups(groups: int, channels: int) -> int:
    """The largest number of groups, at most `groups`, that divides `channels`."""
    return next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)


class GroupNorm(nn.GroupNorm):
    """Group normalisation; its statistics are summed in float32 for bfloat16 input too, on CPU and (by autocast) on
    CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        if self.weight.requires_grad and torch.is_grad_enabled() and not x.requires_grad:
            # torch 2.13 ends in a segmentation fault on the way back from channels_last input that needs no gradient
            # itself (a frozen stem).
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        if x.dtype == torch.bfloat16 and x.shape[-2:].numel() < 1024 and self.num_channels // self.num_groups % 16:
            # The kernel for small channels_last images is not vectorised for groups of fewer channels than a register
            # holds: up to six times slower than float32 with both casts (torch 2.13, docs/results/speed.md).
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


def norm(channels: int, groups: int, eps: float) -> nn.GroupNorm:
    """Group normalisation of as many groups as fit."""
    return GroupNorm(fitting_groups(groups, channels), channels, eps=eps)


def xavier_init(layer: nn.Conv2d | nn.Linear, parts: int = 1) -> None:
    """w ~ U(-b, b), b = sqrt(3 / fan_avg), bias 0: Ho's variance scaling; `parts` fused layers each have their
    own fan.
    """
    for weight in layer.weight.detach().chunk(parts):
        nn.init.xavier_uniform_(weight)
    nn.init.zeros_(cast(Tensor, layer.bias))


def zero_init(layer: nn.Conv2d | nn.Linear) -> None:
    """w = 0, bias 0: a residual branch that starts as the identity (Ho scales it by 1e-10)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))


class TimeEmbedding(nn.Module):
    """e = W2 silu(W1 w), w = [sin(t f) | cos(t f)], f_k = exp(-ln(10000) k / (half - 1)), half = `channels` / 2 (waves
    "ho").

    waves "adm": w = [cos(t f) | sin(t f)] with k / half instead, as in improved DDPM, ADM and newer networks of
    diffusers.

    A map of times [B, 1, H, W] gives e of every pixel, [B, width, H, W], channels innermost.

    Args:
        scale: a factor of t before all. Always in the precision of its weights, never in that of autocast: bfloat16
            does not tell t = 998 from t = 999.
    """

    def __init__(self, channels: int, width: int, *, waves: str = "ho", scale: float = 1.0) -> None:
        super().__init__()
        self.channels, self.waves, self.scale = channels, waves, scale
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, width)
        xavier_init(self.linear1)
        xavier_init(self.linear2)

    def forward(self, time: Tensor) -> Tensor:
        half = self.channels // 2
        with torch.autocast(time.device.type, enabled=False):
            k = torch.arange(half, dtype=torch.float32, device=time.device)
            f = torch.exp(-math.log(10000) * k / (half - 1 if self.waves == "ho" else half))
            phase = (self.scale * (time if time.ndim == 1 else time.squeeze(1)).float())[..., None] * f
            parts = [phase.sin(), phase.cos()] if self.waves == "ho" else [phase.cos(), phase.sin()]
            e = self.linear2(F.silu(self.linear1(torch.cat(parts, dim=-1).to(self.linear1.weight.dtype))))
            return e if time.ndim == 1 else e.movedim(-1, 1)


class ResidualBlock(nn.Module):
    """y = s (skip(x) + conv2(drop(silu(h)))), h = GN(conv1(silu(GN(x))) + W c) ("add") or (1 + a)
    GN(conv1(silu(GN(x)))) + b, [a | b] = W c ("scale_shift").

    c is the condition vector after its SiLU, [B, D], or one for each pixel of y, [B, D, H, W]; skip is a 1x1
    convolution where channels change, otherwise the identity; s is `skip_scale`.

    Args:
        resample: "down" halves and "up" doubles the resolution, of the branch before conv1 and of the skip, by averages
            of 2x2 and by nearest neighbours; project gives the skip of such a block a 1x1 convolution too. Ho et al.
            2020 ("add"); Dhariwal and Nichol 2021 (2105.05233), section 3 ("scale_shift", resample); Karras et al. 2022
            (2206.00364), appendix F (skip_scale, project).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        condition: int,
        *,
        groups: int,
        eps: float,
        dropout: float,
        time_condition: str = "add",
        resample: str | None = None,
        project: bool = False,
        skip_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm(inputs, groups, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulated = time_condition == "scale_shift"
        self.shift = nn.Linear(condition, 2 * outputs if self.modulated else outputs)
        self.norm2 = norm(outputs, groups, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or project else nn.Identity()
        self.resample, self.skip_scale = resample, skip_scale
        xavier_init(self.conv1)
        xavier_init(self.shift)
        zero_init(self.conv2)
        if isinstance(self.skip, nn.Conv2d):
            xavier_init(self.skip)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resample is not None:
            h, x = resized(h, self.resample), resized(x, self.resample)
        h = self.conv1(h)
        shift = self.shift(condition)[:, :, None, None] if condition.ndim == 2 else per_pixel(self.shift, condition)
        if self.modulated:
            scale, shift = shift.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + shift)
        h = self.skip(x) + self.conv2(self.dropout(F.silu(h)))
        return h if self.skip_scale == 1 else h * self.skip_scale


class Attention(nn.Module):
    """y = s (x + W softmax(q' k / sqrt(d)) v) over the H W positions, q | k | v = W_qkv GN(x), d = channels per head, s
    = `skip_scale`.
    """

    def __init__(self, channels: int, *, heads: int, groups: int, eps: float, skip_scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.skip_scale = heads, skip_scale
        self.norm = norm(channels, groups, eps)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.mix = nn.Conv2d(channels, channels, 1)
        xavier_init(self.qkv, parts=3)
        zero_init(self.mix)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        # Views, in contiguous as in channels_last memory; in the latter channels end up with stride 1, as fast kernels
        # want them.
        parts = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, C // self.heads))
        q, k, v = parts.transpose(-1, -2).unbind(1)  # [B, heads, H W, C / heads]
        h = F.scaled_dot_product_attention(q, k, v)
        h = x + self.mix(h.transpose(-1, -2).reshape(B, C, H, W))
        return h if self.skip_scale == 1 else h * self.skip_scale


def resized(x: Tensor, resample: str) -> Tensor:
    """Half the resolution by means of 2x2 ("down"), or twice by nearest neighbours ("up")."""
    return F.avg_pool2d(x, 2) if resample == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")


def initialise(network: nn.Module, style: str) -> None:
    """Initial weights of a whole U-Net. "ho": as the layers are built (variance scaling; last layers of branches 0).
    "zero": PyTorch's own, last layers of branches and the head 0 (Nichol and Dhariwal's). "edm": Xavier uniform, those
    times 1e-5, query, key and value of attention times sqrt(0.2), biases 0.
    """
    if style == "ho":
        return
    for name, layer in network.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        last = name.rpartition(".")[2] in ("conv2", "mix", "head")
        if style == "zero":
            layer.reset_parameters()
            if last:
                zero_init(layer)
            continue
        xavier_init(layer, parts=3 if name.endswith("qkv") else 1)
        with torch.no_grad():
            layer.weight.mul_(1e-5 if last else math.sqrt(0.2) if name.endswith("qkv") else 1.0)


class Downsample(nn.Module):
    """Halves H and W by a 3x3 convolution of stride 2 that pads on the right and at the bottom only (TensorFlow's SAME,
    as in Ho), or on all sides ("both").
    """

    def __init__(self, channels: int, padding: str = "end") -> None:
        super().__init__()
        # not asked of the convolution, which may have an adapter beside it
        self.pads_end = padding == "end"
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if self.pads_end else 1)
        xavier_init(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.pads_end else x)


class Upsample(nn.Module):
    """Doubles H and W: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        xavier_init(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
