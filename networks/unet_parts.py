"""What the U-Net is put together from: a factory of its blocks, one style for all, and the levels that hold them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from networks.layers import Attention, Downsample, ResidualBlock, Upsample


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention or nothing, then a change of resolution or none."""

    def __init__(self, blocks: list[ResidualBlock], attentions: list[Attention], resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resample = resample

    def step(self, x: Tensor, condition: Tensor, index: int) -> Tensor:
        """Block `index` and its attention; where fewer blocks have attention than there are, it is the last ones."""
        x = self.blocks[index](x, condition)
        attended = index - (len(self.blocks) - len(self.attentions))
        return self.attentions[attended](x) if attended >= 0 else x

    def change(self, x: Tensor, condition: Tensor) -> Tensor:
        """The change of resolution."""
        assert self.resample is not None
        return self.resample(x, condition) if isinstance(self.resample, ResidualBlock) else self.resample(x)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Blocks, attentions and changes of resolution of one U-Net, by its options (see there); condition: length of the
    vector that the blocks are told.
    """

    condition: int
    groups: int
    eps: float
    dropout: float
    time_condition: str
    skip_scale: float
    resample: str
    heads: int
    head_channels: int | None
    padding: str

    def block(self, inputs: int, outputs: int, change: str | None = None) -> ResidualBlock:
        """A residual block; change: "down" or "up" of a block that also changes the resolution."""
        return ResidualBlock(
            inputs,
            outputs,
            self.condition,
            groups=self.groups,
            eps=self.eps,
            dropout=self.dropout,
            time_condition=self.time_condition,
            skip_scale=self.skip_scale,
            resample=change,
            project=bool(change) and self.resample == "projected",
        )

    def attend(self, width: int) -> Attention:
        """Self-attention of `width` channels."""
        heads = self.heads if self.head_channels is None else width // self.head_channels
        return Attention(width, heads=heads, groups=self.groups, eps=self.eps, skip_scale=self.skip_scale)

    def resize(self, width: int, change: str) -> nn.Module:
        """Half ("down") or twice ("up") the resolution."""
        if self.resample != "conv":
            return self.block(width, width, change)
        return Downsample(width, self.padding) if change == "down" else Upsample(width)


def level_widths(channels: int, multipliers: Sequence[float]) -> list[int]:
    """channels * m for every level: whole numbers, which networks/unet_checks.py has made sure of."""
    return [round(channels * m) for m in multipliers]


def multipliers_of(widths: Sequence[int], channels: int) -> list[int | float]:
    """The inverse of :func:`level_widths`: whole numbers where they are."""
    return [w / channels if w % channels else w // channels for w in widths]
