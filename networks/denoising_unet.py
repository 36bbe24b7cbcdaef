"""A U-Net without normalisation and attention, for denoisers of pictures of any size: what it says of a pixel depends
on that pixel's surroundings alone.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.build import Recorded
from common.errors import UserError
from networks.layers import TimeEmbedding, xavier_init, zero_init


class ModulatedBlock(nn.Module):
    """y = x + conv2(relu((1 + a) conv1(x) + b)), [a | b] = W c: a residual block whose gain and bias are set by the
    condition.

    Without normalisation, as in DRUNet (Zhang et al. 2021, 2008.13751): statistics over a picture would make a tile
    differ from the whole.

    Args:
        width: channels of x and y.
        condition: length of c, the condition vector after its SiLU.
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        xavier_init(self.conv1)
        zero_init(self.modulation)
        zero_init(self.conv2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv2(F.relu(torch.addcmul(shift, self.conv1(x), 1 + scale)))


class DenoisingUNet(Recorded, nn.Module):
    """out = U(x, time): an image to an image of the same size, conditioned on a number; every output pixel sees at most
    `reach` pixels around it.

    P x P pixels are folded into channels, `blocks` residual blocks stand at each level on the way down and on the way
    up, levels are joined by sums, and resolution changes by convolutions of stride 2 that do not overlap. Folding as in
    FFDNet (Zhang et al. 2018, 1710.04026), sums as in DRUNet (2008.13751).

    Args:
        in_channels: 1 for grey, 3 for colour.
        out_channels: as `in_channels` where None.
        channels: unit of the widths, at least 4.
        multipliers: width of each level over `channels`; each level has half the size of the one before.
        blocks: residual blocks of each level, down and up each; the lowest level has them once.
        patch: P, pixels folded in each direction; 1 folds none.
        time_channels: waves of the embedding of the time, even, at least 4.

    Raises:
        UserError: a size that is not positive, waves that are not even.

    Sizes:
        1,964,204 parameters (3.9 MB in half precision): `DenoisingUNet(in_channels=3)`.
    """

    any_size = True

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None = None,
        channels: int = 32,
        multipliers: Sequence[int] = (2, 3, 4),
        blocks: int = 2,
        patch: int = 2,
        time_channels: int = 32,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "blocks": blocks,
            "patch": patch,
            "channels": channels,
        }
        for name, value in (sizes | {f"multipliers[{i}]": m for i, m in enumerate(multipliers)}).items():
            if value < 1:
                raise UserError(f"{name} of the denoising U-Net must be at least 1, got {value}")
        if not multipliers:
            raise UserError("multipliers of the denoising U-Net must name at least one level, got []")
        if time_channels < 4 or time_channels % 2:
            raise UserError(f"time_channels of the denoising U-Net must be even and at least 4, got {time_channels}")
        self.in_channels, self.out_channels, self.patch = in_channels, out_channels, patch
        self.multiple = patch * 2 ** (len(multipliers) - 1)  # height and width are padded to multiples of this
        #: Pixels on each side of a pixel, beyond its own `multiple` x `multiple` cell, that its output may depend on.
        self.reach = (
            sum(patch * 2**i * 2 * blocks * (1 if i == len(multipliers) - 1 else 2) for i in range(len(multipliers)))
            + 2 * patch
            + self.multiple
        )

        widths, condition = [channels * m for m in multipliers], 4 * time_channels
        self.time_embedding = TimeEmbedding(time_channels, condition)
        self.stem = nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1)

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(ModulatedBlock(width, condition) for _ in range(blocks))

        self.down = nn.ModuleList(level(width) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.middle = level(widths[-1])
        # In the order of execution: the lowest resolution first.
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in reversed(list(pairwise(widths))))
        self.up = nn.ModuleList(level(width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], out_channels * patch**2, 3, padding=1)
        for layer in (self.stem, *self.shrink, *self.grow):
            assert isinstance(layer, nn.Conv2d)
            xavier_init(layer)
        zero_init(self.head)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The output [B, C_out, H, W], in the precision of the weights (under autocast too).

        Args:
            x: images [B, C, H, W], of any height and width; padded inside by replication on the right and at the
            bottom. time: [B], a number of order 0..1000. label: None; there are no classes.

        Raises:
            ValueError: another number of channels or times than expected, or labels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected images [B, {self.in_channels}, H, W], got {list(x.shape)}")
        if time.shape != x.shape[:1]:
            raise ValueError(f"expected one time per image, shape [{x.shape[0]}], got {list(time.shape)}")
        if label is not None:
            raise ValueError("got labels, but this network has no classes; pass label=None")
        height, width = x.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")

        condition = F.silu(self.time_embedding(time))
        x = self._stem(F.pixel_unshuffle(x, self.patch))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues] (a ModuleList of ModuleLists)
                x = block(x, condition)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, condition)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            x = F.pixel_shuffle(grow(x), 2) + skips.pop()
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues] (a ModuleList of ModuleLists)
                x = block(x, condition)
        x = F.pixel_shuffle(self.head(x).to(self.head.weight.dtype), self.patch)
        return F.pad(x, (0, -right, 0, -down)) if down or right else x

    def _stem(self, x: Tensor) -> Tensor:
        """The first convolution, in float32 under autocast too: little noise on a bright pixel is less than half
        precision leaves of it.
        """
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self.stem(x)
        with torch.autocast(device, enabled=False):
            return self.stem(x.to(self.stem.weight.dtype)).to(torch.get_autocast_dtype(device))
