"""Packed convolutions compute what plain ones do."""

import pytest
import torch

from networks.lora import add_adapter, use_adapters
from networks.lora_settings import LoRASettings, chosen
from networks.packed import PackedConv2d, packed
from networks.unet import UNet

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def test_the_same_network_in_float32_and_for_other_batches():
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=16, multipliers=[1, 2], blocks=1, groups=4, resample="residual").eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x, time = torch.randn(4, 1, 12, 12), torch.tensor([1.0, 20.0, 300.0, 900.0])
    fast = packed(network, x, time)
    assert sum(isinstance(m, PackedConv2d) for m in fast.modules()) > 10 and not any(
        isinstance(m, PackedConv2d) for m in network.modules()
    )
    with torch.no_grad():
        torch.testing.assert_close(fast(x, time), network(x, time), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast(x[:3, :, :8], time[:3]), network(x[:3, :, :8], time[:3]), atol=1e-4, rtol=1e-4)
        half = packed(network, x, time, dtype=torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = network(x, time)
            torch.testing.assert_close(half(x, time), expected, atol=0.03 * float(expected.abs().max()), rtol=0)


def test_an_adapter_beside_packed_convolutions_is_switched_on():
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, groups=4, attention=[]).eval()
    add_adapter(network, LoRASettings(layers=chosen(network, ["conv1", "conv2"]), rank=2))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
        x, time = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 900.0])
        use_adapters(network, {})
        fast = packed(network, x, time)  # what is beside the adapter is packed while that is off
        for scales in ({}, {"default": 1.0}):
            use_adapters(network, scales)
            use_adapters(fast, scales)
            torch.testing.assert_close(fast(x, time), network(x, time), atol=1e-4, rtol=1e-4)
