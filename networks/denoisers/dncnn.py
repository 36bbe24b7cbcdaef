"""DnCNN: a chain of convolutions that gives the noise itself, for one level or blind for all."""

from torch import Tensor, nn

from common.build import Recorded
from networks.denoisers.parts import check_counts, convolutions, orthogonal_init


class DnCNN(Recorded, nn.Module):
    """x0 = x - F(x), F a chain of convolutions; pictures in [0, 1].

    It is not told the level: trained at one it removes that one, trained at many it estimates (blind). Zhang et al.
    2017 (1608.03981), 17 layers for one level, 20 for a blind one; batch normalisation, which training there has
    between convolution and ReLU, is part of the convolutions here.

    Args:
        channels: of the picture, 1 or 3.
        width: channels of the layers between.
        layers: number of convolutions, at least 2.

    Raises:
        UserError: numbers below 1.
    """

    takes_level = False
    any_size = True

    def __init__(self, *, channels: int = 1, width: int = 64, layers: int = 17) -> None:
        super().__init__()
        check_counts(channels=channels, width=width, layers=layers - 1)
        self.in_channels = self.out_channels = channels
        self.reach = layers
        self.model = convolutions([channels, *[width] * (layers - 1), channels])
        orthogonal_init(self)

    def forward(self, x: Tensor, time: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """x0 [B, C, H, W] of x [B, C, H, W], both in [0, 1] units; time: not looked at."""
        del time, label
        return x - self.model(x)
