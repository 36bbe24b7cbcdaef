"""A small residual classifier; what stands before its last layer measures how alike two sets of images are."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from common.build import Recorded
from common.errors import UserError
from networks.layers import norm


class PreActivationBlock(nn.Module):
    """y = skip(x) + conv2(silu(GN(conv1(silu(GN(x)))))); where size or width change, skip is a 1x1 convolution of
    silu(GN(x)).
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(inputs, groups, 1e-5), norm(outputs, groups, 1e-5)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.skip = (
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if stride > 1 or inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        skip = x if self.skip is None else self.skip(h)
        return skip + self.conv2(F.silu(self.norm2(self.conv1(h))))


class ResNet(Recorded, nn.Module):
    """logits = W f(x) + b, f the mean over the positions of the last activations: stages of residual blocks, each at
    half the size of the one before.

    Group instead of batch normalisation: the features of an image do not depend on its neighbours in a batch, nor on
    running statistics that an average of weights would leave behind. He et al. 2016 (1603.05027), Wu and He 2018
    (1803.08494).

    Args:
        in_channels: 1 or 3.
        num_classes: K.
        channels: width of each stage; the last one is the number of features.
        blocks: per stage.
        groups: of every normalisation.
        dropout: before the last layer, 0 .. 1.

    Raises:
        UserError: values out of range.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int = 10,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        groups: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "blocks": blocks,
            "groups": groups,
            "channels": min(channels, default=0),
        }
        for name, value in sizes.items():
            if value < 1:
                raise UserError(
                    f"{name} of the ResNet must be at least 1, got {list(channels) if name == 'channels' else value}"
                )
        if not 0 <= dropout < 1:
            raise UserError(f"dropout of the ResNet must be in [0, 1), got {dropout}")
        self.in_channels, self.num_classes, self.feature_dimension = in_channels, num_classes, channels[-1]
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        width = channels[0]
        for i, outputs in enumerate(channels):
            for j in range(blocks):
                stages.append(PreActivationBlock(width, outputs, stride=2 if i and not j else 1, groups=groups))
                width = outputs
        self.stages = nn.Sequential(*stages)
        self.last_norm = norm(width, groups, 1e-5)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """f(x) [B, feature_dimension] of images [B, C, H, W] in [-1, 1]; ValueError for another number of channels."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected images [B, {self.in_channels}, H, W], got {list(x.shape)}")
        return F.silu(self.last_norm(self.stages(self.stem(x)))).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """W f + b [B, K] of features [B, feature_dimension]."""
        return self.head(self.dropout(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))
