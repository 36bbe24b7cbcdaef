"""The U-Net of Ho et al. 2020 (arXiv 2006.11239, appendix B) and its successors at any width and depth, for images of
any size.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from common.build import Recorded
from networks.layers import TimeEmbedding, initialise, norm, xavier_init, zero_init
from networks.unet_checks import check_input, check_sizes, check_style, check_time
from networks.unet_parts import Level, Parts, level_widths


class UNet(Recorded, nn.Module):
    """out = U(x, time, label): an image to an image of the same size, conditioned on a number and perhaps on a class.

    Ho et al.'s network: at each level `blocks` residual blocks going down and `blocks` + 1 going up, joined by
    concatenation; self-attention at chosen levels and in the middle. It knows nothing about diffusion: `time` is any
    number of order 0..1000, or a map of numbers, one for every pixel: then each block is told the mean embedding of the
    pixels under each of its own.

    Args:
        in_channels: 1 for grey, 3 for colour.
        out_channels: as `in_channels` where None.
        channels: width of the first level; even.
        multipliers: width of each level over `channels`, whole or not (1.5 makes 96 of 64), as long as every width is
            whole; their number is the number of levels, each at half the size of the one before.
        blocks: residual blocks per level on the way down; one more on the way up.
        attention: levels, counted from 0, that have attention after each block.
        middle_attention: attention between the two blocks at the bottom.
        middle: those two blocks; without them (False) the way up begins where the way down ends.
        heads: heads of every attention.
        groups: groups of every normalisation, reduced to the largest divisor of its channels.
        dropout: in every residual block, 0..1.
        num_classes: K classes add a table of K + 1 vectors to the time embedding, row K standing for "no class".
        null_class: whether there is that row; without it (ADM) every image needs a label.
        norm_eps: added to the variance in every normalisation.
        time_condition: "add": the time is added to the features (Ho); "scale_shift": it scales and shifts them after
            the second normalisation (improved DDPM, ADM).
        resample: "conv": a convolution of stride 2 down, nearest neighbours and a convolution up (Ho); "residual":
            inside a residual block (ADM); "projected": the same with a 1x1 convolution on the skip (EDM).
        head_channels: channels of each head instead of `heads` (64 in ADM).
        up_attention: "all": after every block on the way up; "last": after the last one of a level only (EDM).
        up_attention_levels: levels that have attention on the way up; None (default): those of `attention`.
        skip_scale: factor of every sum of a branch and its skip; sqrt(1/2) in EDM.
        downsample_padding: of the convolution of stride 2 of resample "conv": "end" pads on the right and at the bottom
            (Ho), "both" on all sides.
        time_waves: "ho" or "adm", see :class:`networks.layers.TimeEmbedding`.
        time_channels: how many waves, even; as `channels` where None; the vector that the blocks are given is four
            times as long.
        time_scale: factor of the time (1000 / T in improved DDPM).
        init: "ho", "zero" or "edm", see :func:`networks.layers.initialise`.
        checkpoint_gradients: forget what is inside residual blocks and compute it again on the way back: less memory,
            about a third more time, the same gradients. How it is trained, not what it is: a checkpoint does not record
            it.
        patch: P > 1 folds P x P pixels into channels before the first convolution and unfolds them after the last:
            about P^2 times less work, at the price of the finest detail (Luhman and Luhman 2022, arXiv 2207.04316).

    Raises:
        UserError: a size that is not positive, an attention level that does not exist, heads that do not divide the
            width.

    Sizes:
        32x32, Ho et al. for CIFAR-10, 35,746,307 parameters: `UNet(in_channels=3, dropout=0.1)`.
        32x32, improved DDPM with learned variance, 52,546,438 parameters: `UNet(in_channels=3, out_channels=6,
            blocks=3, attention=[1, 2], heads=4, dropout=0.3, time_condition="scale_shift", init="zero")`.
        256x256, the network of ADM for FFHQ or ImageNet: what checkpoints/foreign/import_adm.py builds for a file of
            its weights.
        32x32, EDM's DDPM++, 55,732,739 parameters (the published 55,733,891 without the 1,152 of its augmentation
            labels): `UNet(in_channels=3, multipliers=[2, 2, 2], blocks=4, attention=[1], dropout=0.13,
            resample="projected", up_attention="last", skip_scale=0.7071067811865476, init="edm")`.
        28x28, 1,576,084 parameters (3.2 MB in half precision; levels of 14 and 7 patches; trains on about 330 images a
            second on two CPU cores in bfloat16, twice as many as without patches): `UNet(in_channels=1, channels=48,
            multipliers=[1, 2], blocks=1, groups=8, patch=2)`.
        8x8, 701,345 parameters (about 1500 a second): `UNet(in_channels=1, channels=32, multipliers=[1, 2], blocks=1,
            groups=8)`.

    Memory format: channels_last on CUDA; contiguous on a CPU, where group normalisation of channels_last bfloat16 is
    slow (torch 2.13).
    """

    unrecorded = frozenset({"checkpoint_gradients"})
    takes_maps = True  # `time` may be [B, 1, H, W]

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None = None,
        channels: int = 128,
        multipliers: Sequence[int | float] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (1,),
        middle_attention: bool = True,
        heads: int = 1,
        groups: int = 32,
        dropout: float = 0.0,
        num_classes: int | None = None,
        norm_eps: float = 1e-6,
        patch: int = 1,
        time_condition: Literal["add", "scale_shift"] = "add",
        resample: Literal["conv", "residual", "projected"] = "conv",
        head_channels: int | None = None,
        up_attention: Literal["all", "last"] = "all",
        skip_scale: float = 1.0,
        init: Literal["ho", "zero", "edm"] = "ho",
        checkpoint_gradients: bool = False,
        null_class: bool = True,
        downsample_padding: Literal["end", "both"] = "end",
        time_waves: Literal["ho", "adm"] = "ho",
        time_channels: int | None = None,
        time_scale: float = 1.0,
        middle: bool = True,
        up_attention_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        up_levels = attention if up_attention_levels is None else up_attention_levels
        check_sizes(
            in_channels=in_channels,
            out_channels=out_channels,
            channels=channels,
            multipliers=multipliers,
            blocks=blocks,
            patch=patch,
            attention=[*attention, *up_levels],
            bottom_attention=middle and middle_attention,
            heads=heads,
            groups=groups,
            dropout=dropout,
            num_classes=num_classes,
            head_channels=head_channels,
        )
        check_style(time_condition, resample, up_attention, skip_scale, init)
        time_channels = channels if time_channels is None else time_channels
        check_time(downsample_padding, time_waves, time_channels, time_scale)
        self.checkpoint_gradients = checkpoint_gradients
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_classes, self.null_class = num_classes, null_class or num_classes is None
        self.patch = patch
        self.multiple = patch * 2 ** (len(multipliers) - 1)  # height and width are padded to multiples of this

        widths = level_widths(channels, multipliers)
        condition = 4 * time_channels
        last = len(widths) - 1
        parts = Parts(
            condition=condition,
            groups=groups,
            eps=norm_eps,
            dropout=dropout,
            time_condition=time_condition,
            skip_scale=skip_scale,
            resample=resample,
            heads=heads,
            head_channels=head_channels,
            padding=downsample_padding,
        )
        block, attend, resize = parts.block, parts.attend, parts.resize

        self.time_embedding = TimeEmbedding(time_channels, condition, waves=time_waves, scale=time_scale)
        if num_classes is not None:
            self.label_embedding = nn.Embedding(num_classes + null_class, condition)
            nn.init.normal_(self.label_embedding.weight, std=0.2)  # about the size of the time embedding at the start
        self.stem = nn.Conv2d(in_channels * patch**2, channels, 3, padding=1)
        xavier_init(self.stem)

        self.down = nn.ModuleList()
        skips = [channels]  # widths of what the way up will concatenate, in the order of the way down
        width = channels
        for i, outputs in enumerate(widths):
            level = [block(width if j == 0 else outputs, outputs) for j in range(blocks)]
            self.down.append(
                Level(
                    level,
                    [attend(outputs) for _ in level if i in attention],
                    resize(outputs, "down") if i < last else None,
                )
            )
            width = outputs
            skips += [width] * (blocks if i == last else blocks + 1)

        self.middle = middle
        if middle:
            self.middle_block1 = block(width, width)
            self.middle_attention = attend(width) if middle_attention else nn.Identity()
            self.middle_block2 = block(width, width)

        self.up = nn.ModuleList()  # in the order of execution: the lowest resolution first
        for i, outputs in reversed(list(enumerate(widths))):
            level = []
            for _ in range(blocks + 1):
                level.append(block(width + skips.pop(), outputs))
                width = outputs
            attended = level if up_attention == "all" else level[-1:]
            self.up.append(
                Level(
                    level,
                    [attend(outputs) for _ in attended if i in up_levels],
                    resize(outputs, "up") if i > 0 else None,
                )
            )

        self.head_norm = norm(widths[0], groups, norm_eps)
        self.head = nn.Conv2d(widths[0], out_channels * patch**2, 3, padding=1)
        zero_init(self.head)
        initialise(self, init)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """The output [B, C_out, H, W], in the precision of the weights (under autocast too) and the memory format of x.

        Args:
            x: images [B, C, H, W], of any height and width.
            time: [B], a number of order 0..1000, or [B, 1, H, W], one for every pixel.
            label: int64 [B] in 0..K-1, or -1 for "no class"; None is no class for all.

        Raises:
            ValueError: another number of channels, times or labels than expected; labels for a network without classes,
            none for one that needs them.
        """
        check_input(x, time, label, in_channels=self.in_channels, num_classes=self.num_classes)
        height, width = x.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
            time = time if time.ndim == 1 else F.pad(time, (0, right, 0, down), mode="replicate")

        conditions = self._conditions(time, label)
        x = self._stem(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        skips = [x]
        for i, level in enumerate(cast(Sequence[Level], self.down)):
            for j in range(len(level.blocks)):
                x = self._run(level.step, x, conditions[i], j)
                skips.append(x)
            if level.resample is not None:
                x = self._run(level.change, x, conditions[i + 1])
                skips.append(x)

        if self.middle:
            x = self._run(self.middle_block1, x, conditions[-1])
            x = self._run(self.middle_attention, x)
            x = self._run(self.middle_block2, x, conditions[-1])

        for i, level in zip(reversed(range(len(conditions))), cast(Sequence[Level], self.up), strict=True):
            for j in range(len(level.blocks)):
                x = self._run(level.step, torch.cat([x, skips.pop()], dim=1), conditions[i], j)
            if level.resample is not None:
                x = self._run(level.change, x, conditions[i - 1])

        x = self.head(F.silu(self.head_norm(x))).to(self.head_norm.weight.dtype)
        if self.patch > 1:
            x = F.pixel_shuffle(x, self.patch)
        return F.pad(x, (0, -right, 0, -down)) if down or right else x  # a crop that keeps the memory format

    def _run(self, part: Callable[..., Tensor], *inputs: Tensor | int) -> Tensor:
        if self.checkpoint_gradients and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _conditions(self, time: Tensor, label: Tensor | None) -> list[Tensor]:
        """What the blocks of each level are told, the finest first: the same vector [B, D], or for a map of times the
        means over the pixels under each of theirs, [B, D, h, w].
        """
        embedding, of_label = self.time_embedding(time), self._label(label, len(time), time.device)
        if time.ndim == 1:
            return [F.silu(embedding if of_label is None else embedding + of_label)] * len(self.down)
        found = [F.avg_pool2d(embedding, self.patch)]
        for _ in self.down[1:]:
            found.append(F.avg_pool2d(found[-1], 2))
        return [F.silu(e if of_label is None else e + of_label[:, :, None, None]) for e in found]

    def _label(self, label: Tensor | None, count: int, device: torch.device) -> Tensor | None:
        """The embedding [B, D] of labels, None for a network without classes."""
        if self.num_classes is None:
            return None
        if not self.null_class:
            if label is None or bool((label < 0).any()):
                raise ValueError(
                    "this network knows classes only and not their absence (null_class=False): give every image a label"
                )
            return self.label_embedding(label)
        if label is None:
            label = torch.full((count,), self.num_classes, dtype=torch.long, device=device)
        return self.label_embedding(torch.where(label < 0, self.num_classes, label))

    def _stem(self, x: Tensor) -> Tensor:
        """The first convolution, in float32 under autocast too: what tells two images apart may be less than half
        precision leaves of a pixel.

        An image blurred until 1 % of its coarsest pattern is left is one grey in bfloat16, whose steps near 1 are 1 /
        256; so is little noise on a bright area.
        """
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self.stem(x)
        with torch.autocast(device, enabled=False):
            return self.stem(x.to(self.stem.weight.dtype)).to(torch.get_autocast_dtype(device))
