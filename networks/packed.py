"""Convolutions whose weights were put into the CPU library's own layout once: for inference on a CPU, where each call
reorders them otherwise.
"""

import copy

import torch
from torch import Tensor, nn

from networks.winograd import WinogradConv2d, fits


class PackedConv2d(nn.Module):
    """The same convolution without gradients; weight and bias in one precision, chosen when it was packed."""

    def __init__(self, convolution: nn.Conv2d, *, dtype: torch.dtype, shape: list[int]) -> None:
        super().__init__()
        self.geometry = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.bias = None if convolution.bias is None else convolution.bias.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            convolution.weight.detach().to(dtype), *self.geometry, shape
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x.to(self.weight.dtype), self.weight, self.bias, *self.geometry, "none", [], ""
        )


@torch.no_grad()
def packed(
    network: nn.Module, *inputs: Tensor, dtype: torch.dtype = torch.float32, winograd: bool = False
) -> nn.Module:
    """A copy of a network whose convolutions are packed for the shapes that `inputs` (an example of a call) give them;
    other shapes work, less fast.

    dtype: float32, or bfloat16 for use under autocast. winograd: convolutions that are wide enough do fewer
    multiplications (networks/winograd.py), which changes their results by about three times the rounding of float32,
    four times that of bfloat16. For a CPU with oneDNN: RuntimeError elsewhere. What it gains (docs/results/speed.md)
    depends on width and batch, and gradients are gone: nothing uses it by itself.
    """
    if not torch.backends.mkldnn.is_available() or any(p.device.type != "cpu" for p in network.parameters()):
        raise RuntimeError("packed convolutions need a CPU build of torch with oneDNN, and the network on the CPU")
    network = copy.deepcopy(network).eval()
    shapes: dict[str, list[int]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple) and module.padding_mode == "zeros":
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, given, name=name: shapes.__setitem__(name, list(given[0].shape))
                )
            )
    network(*inputs)
    for handle in handles:
        handle.remove()
    for name, shape in shapes.items():
        parent, _, leaf = name.rpartition(".")
        owner = network.get_submodule(parent)
        layer = getattr(owner, leaf)
        if winograd and _wide(layer, shape):
            setattr(owner, leaf, WinogradConv2d(layer, tile=2 if dtype == torch.bfloat16 else 4, dtype=dtype))
        else:
            setattr(owner, leaf, PackedConv2d(layer, dtype=dtype, shape=shape))
    return network


def _wide(layer: nn.Conv2d, shape: list[int]) -> bool:
    """Whether the products that Winograd's sums save cost more than the sums do (measured: docs/results/speed.md)."""
    return fits(layer) and min(layer.in_channels, layer.out_channels) >= 64 and min(shape[2:]) >= 8
