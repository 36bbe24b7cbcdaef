"""peft's LoRA convolution with the same numbers for less work: the low-rank product is added to the weights, and its
gradients never leave the low rank.
"""

import common.torchvision_remedy  # noqa: F401, I001  (peft imports torchvision)

from typing import Any

import torch
from peft.tuners.lora.layer import Conv2d as PeftConv2d
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class LowRankConvolution(torch.autograd.Function):
    """y = (W + s B A) * x + b, for W [O, I, k, k] and b that are not trained, A [r, I, k, k] and B [O, r, 1, 1].

    One convolution on the way forward and one for the gradient of x, as with W alone. With d = dL/dy and p = s B' d,
    which has r channels, the others are dL/dA = the gradient of the weights of a convolution of x with r outputs, whose
    dL/d(output) is p, and dL/dB = s <d, A * x>: r channels each. As three layers (peft's B(A(x)) s + W x) every
    image-sized tensor is read and written four more times, which costs more than training W (docs/results/lora.md).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        geometry: Geometry,
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            total = torch.addmm(weight.flatten(1), up.flatten(1), down.flatten(1), alpha=scale).view(weight.shape)
            if weight.is_contiguous(memory_format=torch.channels_last):
                total = total.contiguous(memory_format=torch.channels_last)
            x, total = x.to(dtype), total.to(dtype)
            ctx.save_for_backward(x, total, down, up)
            ctx.scale, ctx.geometry = scale, geometry
            return F.conv2d(x, total, None if bias is None else bias.to(dtype), *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        x, total, down, up = ctx.saved_tensors
        dx = _backward(d, x, total, ctx.geometry, (True, False, False))[0] if ctx.needs_input_grad[0] else None
        low, high = down.to(x.dtype), (ctx.scale * up).to(x.dtype).flatten(1)
        flat = d.flatten(2)
        p = _mixed(high.t(), flat).unflatten(2, d.shape[2:])
        d_down = _weights(p, x, low, ctx.geometry)
        z = _few_outputs(x, low, ctx.geometry).flatten(2)
        # not its transpose, which MKL computes at a third of the speed
        d_up = torch.bmm(z, flat.transpose(1, 2)).sum(0).t().reshape(up.shape)
        return dx, None, None, d_down.to(down.dtype), ctx.scale * d_up.to(up.dtype), None, None


def _mixed(weight: Tensor, x: Tensor) -> Tensor:
    """weight [r, I] times x [N, I, L] for every n; "@" would transpose a copy of x."""
    return torch.bmm(weight.expand(len(x), -1, -1), x)


def _keeps_size(weight: Tensor, x: Tensor, geometry: Geometry) -> bool:
    """Whether the products below may stand for the convolution: on a CPU, odd kernels of stride 1 that keep height and
    width.
    """
    rows, columns = weight.shape[2:]
    same = geometry == ((1, 1), (rows // 2, columns // 2), (1, 1)) and rows % 2 == columns % 2 == 1
    return x.device.type == "cpu" and same and x.is_contiguous()


def _few_outputs(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """A convolution with so few outputs that oneDNN, which works on 16 at least, would be idle half the time: each
    column of the kernel has its own, which are shifted and added.
    """
    if not _keeps_size(weight, x, geometry):
        return F.conv2d(x, weight, None, *geometry)
    rank, _, rows, columns = weight.shape
    if rows == columns == 1:
        return _mixed(weight.flatten(1), x.flatten(2))
    if x.dtype != torch.float32:  # adding in place is slow in half precision, and the convolution is fast
        return F.conv2d(x, weight, None, *geometry)
    parts = F.conv2d(x, weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(3), None, 1, (rows // 2, 0)).unflatten(
        1, (columns, rank)
    )
    total = parts[:, columns // 2].clone()
    for j in range(columns):
        shift, width = j - columns // 2, x.shape[3]
        if shift and abs(shift) < width:
            to, source = (
                (slice(0, width - shift), slice(shift, width))
                if shift > 0
                else (slice(-shift, width), slice(0, width + shift))
            )
            total[..., to] += parts[:, j, ..., source]
    return total


def _weights(d: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The gradient [r, I, k, k] of the weights of a convolution of x [N, I, H, W] whose few outputs have the gradient d
    [N, r, H', W'].
    """
    if not _keeps_size(weight, x, geometry):
        return _backward(d, x, weight, geometry, (False, True, False))[1]
    (rows, columns), (height, width) = weight.shape[2:], x.shape[2:]
    # The k^2 shifted copies of d, which is small, make it one product with x.
    around = F.pad(d, (columns // 2, columns // 2, rows // 2, rows // 2))
    shifted = around.unfold(2, height, 1).unfold(3, width, 1).reshape(len(d), -1, height * width)
    product = torch.bmm(shifted, x.flatten(2).transpose(1, 2)).sum(0)
    return product.view(len(weight), rows, columns, -1).flip(1, 2).permute(0, 3, 1, 2)


def _backward(
    d: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, ...]:
    stride, padding, dilation = geometry
    return torch.ops.aten.convolution_backward(d, x, weight, None, stride, padding, dilation, False, (0, 0), 1, wanted)


class LoRAConv2d(PeftConv2d):
    """peft's layer; where one plain adapter is active and nothing is dropped from its input, in one convolution.
    Everything else is peft's.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        active = [name for name in self.active_adapters if name in self.lora_A]
        base = self.base_layer
        if (
            len(active) != 1
            or self.disable_adapters
            or self.merged
            or args
            or kwargs
            or not isinstance(base, torch.nn.Conv2d)
            or not self._is_plain(active[0])
        ):
            return super().forward(x, *args, **kwargs)
        name = active[0]
        geometry = (base.stride, base.padding, base.dilation)
        return LowRankConvolution.apply(
            x, base.weight, base.bias, self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name], geometry
        )

    def _is_plain(self, name: str) -> bool:
        base, dropout = self.base_layer, self.lora_dropout[name]
        drops = isinstance(dropout, torch.nn.Dropout) and dropout.p > 0 and self.training
        trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        simple = base.groups == 1 and base.padding_mode == "zeros" and isinstance(base.padding, tuple)
        return bool(simple and not drops and not trained and name not in self.lora_variant and not self.lora_bias[name])
