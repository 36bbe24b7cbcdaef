"""3x3 convolutions with fewer multiplications, for inference on a CPU (Winograd 1980; Lavin and Gray 2016, arXiv
1509.09308).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# G of Lavin and Gray: a filter of 3 taps becomes tile + 2 numbers. The other two matrices are written out as sums
# below, which share their parts.
_FILTER = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}
_CHUNK = 2**22  # transformed numbers held at a time: 16 MiB in float32


class WinogradConv2d(nn.Module):
    """y = A' [(G w G') * (B' d B)] A for every tile of `tile` x `tile` outputs, summed over channels by one matrix
    product per element of the tile.

    A 3x3 convolution of stride 1 and padding 1 with 9 tile^2 / (tile + 2)^2 times fewer multiplications: 2.25 (tile
    2) or 4 (tile 4). No gradients.

    Args:
        tile: 2 in bfloat16, whose rounding the sums amplify about four times; 4 in float32 costs about three times the
            rounding error of a direct convolution.
        dtype: of weights and result.

    Raises:
        ValueError: another kind of convolution.
    """

    def __init__(self, convolution: nn.Conv2d, *, tile: int, dtype: torch.dtype) -> None:
        super().__init__()
        if not fits(convolution):
            raise ValueError(f"expected a 3x3 convolution of stride 1, padding 1 and one group, got {convolution}")
        self.tile = tile
        transform = torch.tensor(_FILTER[tile], dtype=torch.float64, device=convolution.weight.device)
        weight = torch.einsum("ia,jb,ocab->ijco", transform, transform, convolution.weight.detach().double())
        # [(tile + 2)^2, C, O]
        self.register_buffer("weight", weight.flatten(0, 1).to(dtype).contiguous(), persistent=False)
        self.register_buffer(
            "bias", None if convolution.bias is None else convolution.bias.detach().to(dtype), persistent=False
        )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        size, tile, span = x.shape, self.tile, self.tile + 2
        x = x.to(self.weight.dtype).permute(0, 2, 3, 1)  # channels innermost: every sum below runs over rows of them
        h, w = -(-size[2] // tile), -(-size[3] // tile)  # tiles
        width = self.weight.shape[2]
        y = x.new_empty(size[0], h * tile, w * tile, width)
        step = max(1, _CHUNK // (span**2 * h * w * max(x.shape[3], width)))
        for part, out in zip(x.split(step), y.split(step), strict=True):
            part = F.pad(part, (0, 0, 1, w * tile - size[3] + 1, 1, h * tile - size[2] + 1))
            rows = part.new_empty(span, len(part), h, w * tile + 2, x.shape[3])
            _input(_shifted(part, 1, h, tile), rows.unbind(0))
            tiles = part.new_empty(span, span, len(part), h, w, x.shape[3])
            _input(_shifted(rows, 3, w, tile), tiles.unbind(1))
            products = torch.bmm(tiles.flatten(2, 4).flatten(0, 1), self.weight).view(
                span, span, len(part), h, w, width
            )
            rows = part.new_empty(tile, span, len(part), h, w, width)
            _output(products.unbind(0), rows.unbind(0))
            out = out.view(len(part), h, tile, w, tile, width)
            _output(rows.unbind(1), [out[:, :, :, :, k].transpose(1, 2).transpose(0, 1) for k in range(tile)])
        y = y if self.bias is None else y.add_(self.bias)
        return y[:, : size[2], : size[3]].permute(0, 3, 1, 2)


def fits(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that can be written so."""
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups) == (
        (3, 3),
        (1, 1),
        (1, 1),
        (1, 1),
        1,
    )


def _shifted(x: Tensor, dim: int, count: int, tile: int) -> list[Tensor]:
    """Elements k, k + tile, k + 2 tile, ... of a dimension, for k in 0..tile + 1: `count` of each, as views."""
    index = [slice(None)] * x.ndim
    views = []
    for k in range(tile + 2):
        index[dim] = slice(k, k + tile * (count - 1) + 1, tile)
        views.append(x[tuple(index)])
    return views


def _input(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """out = B' d along one dimension."""
    if len(d) == 4:
        torch.sub(d[0], d[2], out=out[0])
        torch.add(d[1], d[2], out=out[1])
        torch.sub(d[2], d[1], out=out[2])
        torch.sub(d[1], d[3], out=out[3])
        return
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(even.sub_(d[2], alpha=4), d[0], alpha=4, out=out[0])  # 4 d0 - 5 d2 + d4
    torch.sub(d[5], d[3], out=even)
    torch.sub(even, odd, alpha=4, out=out[5])  # 4 d1 - 5 d3 + d5


def _output(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """out = A' m along one dimension."""
    if len(m) == 4:
        torch.add(m[1], m[2], out=out[0]).add_(m[0])
        torch.sub(m[1], m[2], out=out[1]).sub_(m[3])
        return
    near_sum, near_difference, far_sum, far_difference = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    torch.add(m[0], near_sum, out=out[0]).add_(far_sum)
    torch.add(near_difference, far_difference, alpha=2, out=out[1])
    torch.add(near_sum, far_sum, alpha=4, out=out[2])
    torch.add(near_difference.add_(far_difference, alpha=8), m[5], out=out[3])
