"""FFDNet: one network for all levels of noise, which are an input, on pixels folded two by two."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.build import Recorded
from networks.denoisers.parts import check_counts, convolutions, level_map, orthogonal_init, padded


class FFDNet(Recorded, nn.Module):
    """x0 = up(F([down(x), level])): down folds 2x2 pixels into channels, up unfolds them, F is a chain of convolutions.

    Pictures in [0, 1], levels in the same unit. A map of levels is folded too: of four pixels the root of the mean
    variance. Odd sides are padded by repeating the last row or column. Zhang et al. 2018 (1710.04026): 15 layers of 64
    for grey, 12 of 96 for colour.

    Args:
        channels: of the picture, 1 or 3.
        width: channels of the layers between.
        layers: number of convolutions, at least 2.

    Raises:
        UserError: numbers below 1.
    """

    takes_maps = True
    takes_level = True
    any_size = True

    def __init__(self, *, channels: int = 3, width: int = 96, layers: int = 12) -> None:
        super().__init__()
        check_counts(channels=channels, width=width, layers=layers - 1)
        self.in_channels = self.out_channels = channels
        self.reach, self.multiple = 2 * layers, 2
        self.model = convolutions([4 * channels + 1, *[width] * (layers - 1), 4 * channels])
        orthogonal_init(self)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """x0 [B, C, H, W] of x [B, C, H, W], both in [0, 1] units; time: the level [B] or [B, 1, H, W], in such units
        too.
        """
        del label
        folded = F.pixel_unshuffle(padded(x, 2), 2)
        if time.ndim == 1:
            level = level_map(time, folded)
        else:
            level = F.avg_pool2d(padded(time.to(x.dtype), 2).square(), 2).sqrt()
        unfolded = F.pixel_shuffle(self.model(torch.cat([folded, level], 1)), 2)
        return unfolded[..., : x.shape[2], : x.shape[3]]
