"""The U-Net: counts, shapes, what it must and must not depend on, precision, memory formats, refusals."""

import copy

import pytest
import torch
from torch import nn

from common.build import build
from common.errors import UserError
from networks.layers import Attention, Downsample, TimeEmbedding, fitting_groups, norm
from networks.unet import UNet

TINY = {"in_channels": 1, "channels": 16, "multipliers": [1, 2, 2], "blocks": 1, "attention": [2], "groups": 8}
MNIST = {"in_channels": 1, "channels": 32, "multipliers": [1, 2, 3], "blocks": 1, "attention": [2], "groups": 8}
DIGITS = {"in_channels": 1, "channels": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8}


def awake(**options):
    """A network whose silenced layers speak: at the start they are zero and hide everything behind them."""
    torch.manual_seed(0)
    network = UNet(**options).eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim > 1 and not p.any():
                p.normal_(std=0.2 / p[0].numel() ** 0.5 * 5)
    return network


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts():
    with torch.device("meta"):
        assert count(UNet(in_channels=3, dropout=0.1)) == 35_746_307  # Ho et al. 2020 as counted in diffusers
    mnist = UNet(**MNIST)
    assert count(mnist) == 1_805_121 and 2 * count(mnist) < 5e6
    assert count(UNet(**DIGITS)) == 701_345
    assert count(UNet(**MNIST, num_classes=10)) == count(mnist) + 11 * 128


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (1, 1), (5, 3), (29, 31), (1, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_grey_and_colour(size, channels):
    network = awake(**TINY | {"in_channels": channels})
    x = images(2, channels, *size)
    out = network(x, torch.tensor([0.0, 999.0]))
    assert out.shape == x.shape and out.dtype == torch.float32 and torch.isfinite(out).all()


def test_padding_inside_is_replication_to_a_multiple():
    network = awake(**TINY)
    x, time = images(2, 1, 7, 10), torch.tensor([3.0, 700.0])
    padded = nn.functional.pad(x, (0, 2, 0, 1), mode="replicate")
    torch.testing.assert_close(network(x, time), network(padded, time)[..., :7, :10], rtol=0, atol=1e-6)


def test_other_number_of_output_channels():
    assert UNet(**TINY, out_channels=2)(images(1, 1, 8, 8), torch.zeros(1)).shape == (1, 2, 8, 8)


def test_output_is_zero_at_the_start():
    network = UNet(**TINY, num_classes=3)
    assert not network(images(2, 1, 12, 12), torch.tensor([1.0, 2.0]), torch.tensor([0, -1])).any()


def test_images_of_a_batch_do_not_see_each_other():
    network = awake(**TINY).double()
    x, time = images(3, 1, 9, 9).double(), torch.tensor([1.0, 400.0, 999.0])
    whole = network(x, time)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], time[i : i + 1])[0], whole[i], rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient_and_so_do_image_and_neighbouring_times():
    network = awake(**TINY, num_classes=3)
    x = images(4, 1, 8, 8).requires_grad_()
    time = torch.tensor([10.0, 20.0, 30.0, 40.0], requires_grad=True)
    network(x, time, torch.tensor([0, 1, 2, -1])).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and p.grad.any(), name
    assert network.label_embedding.weight.grad.any(dim=1).all()  # each of the three classes and "no class"
    assert x.grad.any() and time.grad.all()


def test_labels_change_the_output_and_no_label_is_the_null_class():
    network = awake(**TINY, num_classes=3)
    x, time = images(1, 1, 8, 8).expand(4, -1, -1, -1), torch.full((4,), 300.0)
    out = network(x, time, torch.tensor([0, 1, 2, -1]))
    for i in range(4):
        for j in range(i):
            assert (out[i] - out[j]).abs().max() > 1e-3
    torch.testing.assert_close(network(x, time)[0], out[3], rtol=0, atol=1e-6)
    assert torch.equal(network(x, time), network(x, time, torch.full((4,), -1)))
    assert torch.equal(network(x, time), network(x, time, torch.full((4,), 3)))


def test_time_embedding_closed_form_in_float32_under_autocast():
    embedding = TimeEmbedding(8, 8)
    with torch.no_grad():
        for layer in (embedding.linear1, embedding.linear2):
            layer.weight.copy_(torch.eye(8))
    time = torch.tensor([0.0, 1.0, 998.0, 999.0])
    frequency = 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 3)  # 1 ... 1/10000
    waves = torch.cat([torch.sin(time[:, None] * frequency), torch.cos(time[:, None] * frequency)], dim=1)
    expected = nn.functional.silu(waves)
    with torch.autocast("cpu", torch.bfloat16):
        got = embedding(time)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4)  # float32 phase of 999: 999 * 2^-24 = 6e-5


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_a_weighted_mean_of_values(heads):
    """Against softmax(q' k / sqrt(d)) v written out."""
    torch.manual_seed(0)
    layer = Attention(8, heads=heads, groups=2, eps=1e-6).double()
    nn.init.normal_(layer.mix.weight)
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).reshape(2, 3, heads, 8 // heads, 15).unbind(1)
    weights = (torch.einsum("bhdi,bhdj->bhij", q, k) / (8 // heads) ** 0.5).softmax(-1)
    expected = x + layer.mix(torch.einsum("bhij,bhdj->bhdi", weights, v).reshape(2, 8, 3, 5))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-12)


def test_downsampling_pads_right_and_bottom_only():
    layer = Downsample(1)
    with torch.no_grad():
        layer.conv.weight.fill_(1)
    x = torch.zeros(1, 1, 4, 4)
    x[..., 0, 0] = 1  # the corner is seen by the first output alone, once
    x[..., 3, 3] = 10
    torch.testing.assert_close(layer(x), torch.tensor([[[[1.0, 0.0], [0.0, 10.0]]]]))


def test_initial_weights_have_ho_s_variance():
    """Uniform with variance 1 / fan_avg, q, k and v each with its own fan."""
    torch.manual_seed(0)
    network = UNet(in_channels=3, channels=64, multipliers=[1, 2], attention=[1], blocks=1)
    for weight, fan in [
        (network.down[1].blocks[0].conv1.weight, 9 * (64 + 128) / 2),
        (network.time_embedding.linear1.weight, (64 + 256) / 2),
        *((w, 128) for w in network.middle_attention.qkv.weight.chunk(3)),
    ]:
        assert weight.var().item() == pytest.approx(1 / fan, rel=0.04)
        assert weight.abs().max().item() <= (3 / fan) ** 0.5


def test_groups_fit_their_channels():
    assert [fitting_groups(32, c) for c in (1, 16, 32, 48, 144, 256)] == [1, 16, 32, 24, 24, 32]
    assert UNet(**TINY | {"channels": 18, "groups": 32})(images(1, 1, 4, 4), torch.zeros(1)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("size", [(12, 12), (9, 11)])
def test_channels_last_gives_the_same_and_stays(size):
    network = awake(**TINY | {"in_channels": 3, "out_channels": 3})
    x, time = images(2, 3, *size), torch.tensor([5.0, 800.0])
    expected = network(x, time)
    assert expected.is_contiguous()
    out = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), time)
    assert out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_autocast_is_near_float32(memory):
    network = awake(**TINY, num_classes=3).to(memory_format=memory)
    x, time, label = (
        images(4, 1, 12, 12).to(memory_format=memory),
        torch.tensor([0.0, 10.0, 500.0, 999.0]),
        torch.tensor([0, 1, 2, -1]),
    )
    expected = network(x, time, label)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, time, label)
    assert out.dtype == torch.float32
    # bfloat16 has a relative rounding error of 2^-9; some twenty roundings in a row, independent.
    assert (out - expected).std() < 0.02 * expected.std()
    with torch.autocast("cpu", torch.bfloat16):
        network(x, time, label).sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32
        for p in network.parameters()
    )


def test_normalisation_of_a_large_mean_in_bfloat16():
    """Statistics are not summed in bfloat16: 4096 values of mean 100 would lose their variance."""
    norm = nn.GroupNorm(1, 4)
    x = (100 + 8 * images(2, 4, 32, 32)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
    torch.testing.assert_close(out.float(), norm(x.float()), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("channels", "size"), [(16, 8), (32, 40), (64, 4)])
def test_normalisation_is_the_same_function_in_every_memory_format(channels, size):
    """Forward and back, in bfloat16, where channels_last takes another way."""
    torch.manual_seed(0)
    layer = norm(channels, 4, 1e-5)
    nn.init.normal_(layer.weight)
    x, g = images(2, channels, size, size).bfloat16(), torch.randn(2, channels, size, size)
    expected = nn.functional.group_norm(x.float(), 4, layer.weight, layer.bias)
    slope = torch.autograd.grad(expected, layer.weight, g)[0]
    for memory in (torch.contiguous_format, torch.channels_last):
        out = layer(x.contiguous(memory_format=memory))
        assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=memory)
        torch.testing.assert_close(out.float(), expected, rtol=0.01, atol=0.01)
        torch.testing.assert_close(torch.autograd.grad(out, layer.weight, g.bfloat16())[0], slope, rtol=0.02, atol=1)


def test_deep_copy_and_compile_keep_names_and_numbers():
    network = awake(**TINY)
    names = list(network.state_dict())
    network.compile()
    assert list(network.state_dict()) == names
    twin = copy.deepcopy(network)
    assert list(twin.state_dict()) == names and twin.spec == network.spec
    with torch.no_grad():
        twin.stem.weight.zero_()
    assert network.stem.weight.any()


@pytest.mark.slow
def test_compiled_graph_is_whole():
    """One graph, no break, for a size that is padded too; traced without a C++ compiler."""
    network = awake(**TINY, num_classes=3)
    x, time, label = images(2, 1, 7, 9), torch.tensor([1.0, 2.0]), torch.tensor([1, -1])
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, time, label), network(x, time, label))


def test_names_do_not_end_alike():
    """peft finds `head` by "ends with .head" (or is "head"): that must be one layer."""
    network = UNet(**TINY, num_classes=2)
    for suffix in ("head", "stem", "head_norm"):
        assert [n for n, _ in network.named_modules() if n.split(".")[-1] == suffix] == [suffix]
    assert isinstance(network.head, nn.Conv2d) and list(network.state_dict())[-1] == "head.bias"


def test_builds_from_a_config_and_describes_itself():
    spec = {"class_path": "networks.unet.UNet", "init_args": {"in_channels": 1, "channels": 16, "multipliers": [1, 2]}}
    network = build(spec, nn.Module, where="test")
    assert (
        network.spec["class_path"] == spec["class_path"]
        and network.spec["init_args"].items() >= spec["init_args"].items()
    )
    again = build(network.spec, nn.Module, where="test")
    assert count(again) == count(network)
    with pytest.raises(UserError, match="multipliers"):
        build(
            {"class_path": "networks.unet.UNet", "init_args": {"in_channels": 1, "multipliers": "wide"}},
            nn.Module,
            where="test",
        )


def test_dropout_acts_in_training_only():
    network = awake(**TINY, dropout=0.5)
    x, time = images(1, 1, 8, 8), torch.zeros(1)
    assert torch.equal(network(x, time), network(x, time))
    network.train()
    assert not torch.equal(network(x, time), network(x, time))


def test_wrong_input_is_refused_with_expected_and_got():
    network = UNet(**TINY)
    with pytest.raises(ValueError, match=r"\[B, 1, H, W\], got \[2, 3, 8, 8\]"):
        network(images(2, 3, 8, 8), torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \[2\], or one per pixel, .*, got \[1\]"):
        network(images(2, 1, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="num_classes"):
        network(images(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="one label per image"):
        UNet(**TINY, num_classes=2)(images(2, 1, 8, 8), torch.zeros(2), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention": [3]}, "attention level 3 does not exist.*0 to 2"),
        ({"attention": [-1]}, "attention level -1 does not exist"),
        ({"heads": 3}, "heads must divide the 32 channels"),
        ({"channels": 15}, "channels .* even"),
        ({"multipliers": []}, "multipliers"),
        ({"multipliers": [1, 0, 2]}, r"multipliers\[1\]"),
        ({"blocks": 0}, "blocks"),
        ({"groups": 0}, "groups"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
    ],
)
def test_impossible_networks_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        UNet(**TINY | change)


def test_half_precision_does_not_round_the_image_itself():
    """Two images that are one in bfloat16 are still told apart: the first convolution sees float32."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    with torch.no_grad():
        # Differences of neighbours: what is left of a pattern when the grey is gone.
        network.stem.weight -= network.stem.weight.mean((1, 2, 3), keepdim=True)
        network.stem.bias.zero_()
    x = torch.full((1, 1, 8, 8), -0.9) + 1e-4 * torch.randn(1, 1, 8, 8)
    assert len(x.bfloat16().unique()) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network._stem(x)
    exact = network.stem(x)[:, :, 1:-1, 1:-1]
    assert rounded.dtype == torch.bfloat16
    assert (rounded[:, :, 1:-1, 1:-1] - exact).abs().max() < 0.01 * exact.abs().max()
