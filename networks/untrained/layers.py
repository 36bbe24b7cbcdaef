"""Layers of several independent networks in one pass: copy k has its own weights, statistics and output, as if it were
alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def part(tensor: Tensor, copy: int, copies: int) -> Tensor:
    """The share of copy number `copy` in a parameter (or a moment of it) of :class:`Conv` or :class:`Norm`: a view of
    the copy-th part of the first axis.
    """
    size = len(tensor) // copies
    return tensor[copy * size : (copy + 1) * size]


class Conv(nn.Module):
    """y_k = W_k * x_k + b_k for the copies k: x [K, in, H, W] to [K, out, H / stride, W / stride], size-preserving
    padding.

    One grouped convolution on [1, K in, H, W]; weight [K out, in, kernel, kernel], bias [K out].

    Args:
        padding: "reflection" or "zero". Weights are set by :meth:`reset`, per copy from its own generator, uniform as
            torch's default (Kaiming with a = sqrt 5).
    """

    def __init__(
        self,
        copies: int,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: str = "reflection",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if padding not in ("reflection", "zero"):
            raise ValueError(f"padding must be reflection or zero, got '{padding}'")
        self.copies, self.stride = copies, stride
        self.pad = kernel // 2 if padding == "reflection" else 0
        self.zeros = kernel // 2 if padding == "zero" else 0
        self.weight = nn.Parameter(torch.zeros(copies * outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(copies * outputs)) if bias else None

    @torch.no_grad()
    def reset(self, generators: list[torch.Generator]) -> None:
        """Draw the weights of copy k from generators[k] (on the CPU, in float32, so that they are equal on every device
        and in every precision).
        """
        bound = 1 / math.sqrt(self.weight[0].numel())
        for tensor in (self.weight, self.bias):
            if tensor is not None:
                for k, generator in enumerate(generators):
                    share = part(tensor, k, self.copies)
                    share.copy_(
                        torch.empty(share.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
                    )

    def forward(self, x: Tensor) -> Tensor:
        if self.copies > 1:
            x = x.reshape(1, -1, *x.shape[2:])
        if self.pad:
            x = F.pad(x, [self.pad] * 4, mode="reflect")
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.zeros, groups=self.copies)
        return x.reshape(self.copies, -1, *x.shape[2:]) if self.copies > 1 else x


class Norm(nn.Module):
    """Batch normalisation of every copy by its own image: gamma (x - mean) / sqrt(var + 1e-5) + beta over H and W, also
    when evaluating.

    x [K, C, H, W]; weight and bias [K C]. A network that is fitted to one image has no other statistics.
    """

    def __init__(self, copies: int, channels: int) -> None:
        super().__init__()
        self.copies = copies
        self.weight, self.bias = (
            nn.Parameter(torch.ones(copies * channels)),
            nn.Parameter(torch.zeros(copies * channels)),
        )

    @torch.no_grad()
    def reset(self) -> None:
        self.weight.fill_(1)
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        # a view would give dimensions of size 1 strides that make the backward pass in channels_last slow
        if self.copies == 1:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True)
        shape = x.shape
        return F.batch_norm(x.reshape(1, -1, *shape[2:]), None, None, self.weight, self.bias, training=True).reshape(
            shape
        )
