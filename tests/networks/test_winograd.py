"""Winograd's convolution is the convolution."""

import pytest
import torch
from torch import nn

from networks.packed import packed
from networks.unet import UNet
from networks.winograd import WinogradConv2d, fits


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1), (13, 4)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_same_numbers_in_float64(tile, size, memory):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3, padding=1).double()
    x = torch.randn(3, 6, *size, dtype=torch.float64).contiguous(memory_format=memory)
    before = x.clone()
    out = WinogradConv2d(layer, tile=tile, dtype=torch.float64)(x)
    torch.testing.assert_close(out, layer(x), rtol=0, atol=1e-12)
    assert torch.equal(x, before)


def test_a_batch_in_parts(monkeypatch):
    monkeypatch.setattr("networks.winograd._CHUNK", 1)
    layer = nn.Conv2d(4, 3, 3, padding=1, bias=False).double()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(WinogradConv2d(layer, tile=4, dtype=torch.float64)(x), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tile", "times"), [(torch.float32, 2, 2), (torch.float32, 4, 12), (torch.bfloat16, 2, 8)]
)
def test_rounding_is_a_small_multiple_of_a_direct_convolution_s(dtype, tile, times):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1).to(dtype)
    x = torch.randn(2, 64, 16, 16).to(dtype)
    with torch.no_grad():
        exact = nn.functional.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
        direct = (layer(x) - exact).std()
    assert (WinogradConv2d(layer, tile=tile, dtype=dtype)(x) - exact).std() < times * direct


def test_other_convolutions_are_refused():
    others = [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Linear(4, 4),
    ]
    others += [nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 4, 3, padding="same")]
    assert not any(fits(layer) for layer in others) and fits(nn.Conv2d(4, 4, 3, padding=1))
    with pytest.raises(ValueError, match="3x3"):
        WinogradConv2d(others[0], tile=2, dtype=torch.float32)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_a_whole_network_within_1e_5():
    torch.manual_seed(0)
    network = UNet(in_channels=3, channels=64, multipliers=[1, 1], blocks=1).eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim > 1 and not p.any():
                nn.init.normal_(p, std=p[0].numel() ** -0.5)
    x, time = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 800.0])
    fast = packed(network, x, time, winograd=True)
    assert sum(isinstance(m, WinogradConv2d) for m in fast.modules()) > 10
    with torch.no_grad():
        expected = network(x, time)
        assert expected.std() > 0.1
        torch.testing.assert_close(fast(x, time), expected, rtol=0, atol=1e-5)
