"""IRCNN: small dilated networks, one for each of many levels of noise, in one."""

import torch
from torch import Tensor, nn

from common.build import Recorded
from networks.denoisers.parts import check_counts, convolutions, orthogonal_init

DILATIONS = (1, 2, 3, 4, 3, 2, 1)


class IRCNN(Recorded, nn.Module):
    """x0 = x - F_k(x), k = ceil(level / step) - 1 within 0 .. levels - 1, F_k seven convolutions dilated by 1, 2, 3, 4,
    3, 2, 1.

    Network k was trained at the level (k + 1) step: the level asked for is rounded up. Pictures in [0, 1], levels in
    the same unit. Zhang et al. 2017 (1704.03264): 25 networks, steps of 2 / 255.

    Args:
        channels: of the picture, 1 or 3.
        width: channels of the layers between.
        levels: number of networks.
        step_255: distance of their levels, of 255.

    Raises:
        UserError: numbers below 1.
    """

    takes_level = True
    any_size = True
    reach = sum(DILATIONS)

    def __init__(self, *, channels: int = 1, width: int = 64, levels: int = 25, step_255: int = 2) -> None:
        super().__init__()
        check_counts(channels=channels, width=width, levels=levels, step_255=step_255)
        self.in_channels = self.out_channels = channels
        self.step_255 = step_255
        chain = [channels, *[width] * (len(DILATIONS) - 1), channels]
        self.models = nn.ModuleList(convolutions(chain, DILATIONS) for _ in range(levels))
        orthogonal_init(self)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """x0 [B, C, H, W] of x [B, C, H, W], both in [0, 1] units; time: the level [B], in such units too."""
        del label
        chosen = self.network_of(time)
        noise = torch.zeros_like(x)
        for k in chosen.unique().tolist():
            rows = (chosen == k).nonzero()[:, 0]
            noise = noise.index_copy(0, rows, self.models[k](x[rows]).to(noise.dtype))
        return x - noise

    def network_of(self, level: Tensor) -> Tensor:
        """k of each level, int64 [B]. A level that is a network's own stays its own, whatever float32 makes of it."""
        place = level.double() * (255 / self.step_255)
        return (place - 1e-4).ceil().long().sub(1).clamp(0, len(self.models) - 1)
