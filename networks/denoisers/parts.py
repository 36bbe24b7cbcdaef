"""What the published denoisers share: pictures in [0, 1] of any size, and a level of noise in the same unit."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError


def padded(x: Tensor, multiple: int) -> Tensor:
    """x [B, C, H, W] with its last row and column repeated until both sides are multiples of `multiple`."""
    height, width = x.shape[2:]
    down, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def level_map(level: Tensor, x: Tensor) -> Tensor:
    """The level as an image [B, 1, H, W] of x's size, from [B] or such a map."""
    if level.ndim == 1:
        level = level.view(-1, 1, 1, 1)
    return level.to(x.dtype).expand(len(x), 1, *x.shape[2:])


def convolutions(channels: Sequence[int], dilations: Sequence[int] | None = None) -> nn.Sequential:
    """3x3 convolutions that keep the size, ReLU between them: channels[k] to channels[k + 1], dilated by dilations[k]
    (1).
    """
    dilations = [1] * (len(channels) - 1) if dilations is None else dilations
    layers: list[nn.Module] = []
    for k, dilation in enumerate(dilations):
        layers += [nn.ReLU(inplace=True)] if k else []
        layers.append(nn.Conv2d(channels[k], channels[k + 1], 3, padding=dilation, dilation=dilation))
    return nn.Sequential(*layers)


@torch.no_grad()
def orthogonal_init(network: nn.Module, gain: float = 0.2) -> None:
    """Weights of all convolutions orthogonal times `gain`, biases 0: what these networks are trained from."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.orthogonal_(module.weight, gain=gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_counts(**counts: int) -> None:
    """UserError for a number of channels or layers below 1, by its name."""
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
