"""DRUNet: a residual U-Net without biases and normalisation that is given a map of the noise level."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from common.build import Recorded
from common.errors import UserError
from networks.denoisers.parts import check_counts, level_map, orthogonal_init, padded


class ResidualBlock(nn.Module):
    """y = x + conv(relu(conv(x))), without biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(_conv(width, width), nn.ReLU(inplace=True), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res(x)


class DRUNet(Recorded, nn.Module):
    """x0 = U([x, level]): four scales of residual blocks joined by sums, 2x2 convolutions of stride 2 between them.

    Pictures in [0, 1], levels in the same unit. Without biases x0 scales with picture and level together. Sides that
    are no multiples of the stride, 8, are padded by repeating the last row or column. Zhang et al. 2021 (2008.13751),
    32.6 million parameters as given there.

    Args:
        channels: of the picture, 1 or 3.
        widths: channels of the scales, from the finest; each has half the size of the one before.
        blocks: residual blocks of each scale, down and up each; the lowest scale has them once.

    Raises:
        UserError: numbers below 1, other than four widths.
    """

    takes_maps = True
    takes_level = True
    any_size = True

    def __init__(self, *, channels: int = 3, widths: Sequence[int] = (64, 128, 256, 512), blocks: int = 4) -> None:
        super().__init__()
        if len(widths) != 4:
            raise UserError(f"widths must be four numbers, one for each scale, got {list(widths)}")
        check_counts(channels=channels, blocks=blocks, **{f"widths[{k}]": width for k, width in enumerate(widths)})
        self.in_channels = self.out_channels = channels
        self.reach, self.multiple = _reach(blocks), 8
        self.m_head = _conv(channels + 1, widths[0])
        for k in range(3):
            down = nn.Conv2d(widths[k], widths[k + 1], 2, stride=2, bias=False)
            up = nn.ConvTranspose2d(widths[k + 1], widths[k], 2, stride=2, bias=False)
            setattr(self, f"m_down{k + 1}", nn.Sequential(*_blocks(widths[k], blocks), down))
            setattr(self, f"m_up{k + 1}", nn.Sequential(up, *_blocks(widths[k], blocks)))
        self.m_body = nn.Sequential(*_blocks(widths[3], blocks))
        self.m_tail = _conv(widths[0], channels)
        orthogonal_init(self)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """x0 [B, C, H, W] of x [B, C, H, W], both in [0, 1] units; time: the level [B] or [B, 1, H, W], in such units
        too.
        """
        del label
        height, width = x.shape[2:]
        h = self.m_head(padded(torch.cat([x, level_map(time, x)], 1), 8))
        skips = [h]
        for k in (1, 2, 3):
            h = self._part(f"m_down{k}")(h)
            skips.append(h)
        h = self.m_body(h)
        for k in (3, 2, 1):
            h = self._part(f"m_up{k}")(h + skips.pop())
        return self.m_tail(h + skips.pop())[..., :height, :width]

    def _part(self, name: str) -> nn.Module:
        return cast(nn.Module, getattr(self, name))


def _reach(blocks: int) -> int:
    """How far beyond its cell of 8x8 pixels an output pixel looks, wherever it lies in there."""
    found = 0
    for at in range(8):
        low, high = at - 1, at + 1
        for _ in range(3):  # up again, backwards
            low, high = (low - 2 * blocks) // 2, (high + 2 * blocks) // 2
        low, high = low - 2 * blocks, high + 2 * blocks
        for _ in range(3):
            low, high = 2 * low - 2 * blocks, 2 * high + 1 + 2 * blocks
        found = max(found, 1 - low, high + 1 - 7)
    return found


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(count)]
