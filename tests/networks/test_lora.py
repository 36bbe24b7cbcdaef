"""Adapters inside a network: identity, linearity, sums, merging, peft's own layers as the independent
implementation.
"""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import Conv2d as PeftConv2d
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from networks.lora import (
    adapter_state,
    adapters,
    add_adapter,
    base_state,
    load_adapter_state,
    merge_adapters,
    use_adapters,
)
from networks.lora_convolution import LoRAConv2d, LowRankConvolution
from networks.lora_settings import ATTENTION_AND_CONVOLUTIONS, LoRASettings, chosen
from networks.unet import UNet

X = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
T = torch.tensor([3.0, 900.0])


def network(**options):
    torch.manual_seed(0)
    made = UNet(
        **{"in_channels": 1, "channels": 16, "multipliers": [1, 2], "blocks": 1, "groups": 8, "patch": 2, **options}
    )
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return made.eval()


def settings(net, targets=ATTENTION_AND_CONVOLUTIONS, **options):
    return LoRASettings(layers=chosen(net, targets), **{"rank": 4, "alpha": 8.0, **options})


def adapted(net, name="default", seed=1, targets=ATTENTION_AND_CONVOLUTIONS, **options):
    """The network with an adapter that is not the identity any more."""
    add_adapter(net, settings(net, targets, **options), name)
    generator = torch.Generator().manual_seed(seed)
    state = adapter_state(net, name)
    load_adapter_state(
        net,
        {n: t if "magnitude" in n else t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in state.items()},
        name,
    )
    return net


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}, {"dropout": 0.3}])
def test_a_new_adapter_is_the_identity_bit_for_bit(options):
    base, net = network(), network()
    add_adapter(net, settings(net, **options))
    with torch.no_grad():
        if options.get("dora"):  # divides each row by its own length and multiplies by it again
            torch.testing.assert_close(net(X, T), base(X, T), atol=1e-5, rtol=0)
        else:
            assert torch.equal(net(X, T), base(X, T))
    assert (
        all(torch.equal(v, base.state_dict()[n]) for n, v in base_state(net).items())
        and base_state(net).keys() == base.state_dict().keys()
    )


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}])
def test_merged_is_unmerged(options):
    net = adapted(network(), **options)
    use_adapters(net, {"default": 1.0})
    expected = net(X, T)
    assert (expected - network()(X, T)).abs().max() > 0.05
    merge_adapters(net)
    assert net.state_dict().keys() == network().state_dict().keys() and not adapters(net)
    torch.testing.assert_close(net(X, T), expected, atol=1e-5, rtol=0)


def test_merged_is_unmerged_in_double_precision():
    net = adapted(network()).double()
    use_adapters(net, {"default": 1.0})
    x = X.double()
    expected = net(x, T.double())
    merge_adapters(net)
    torch.testing.assert_close(net(x, T.double()), expected, atol=1e-12, rtol=0)


def weights(net):
    found = copy.deepcopy(net)
    merge_adapters(found)
    return {n: v for n, v in found.state_dict().items() if v.is_floating_point()}


def test_the_change_is_linear_in_the_scale_and_adapters_add_up():
    base = network().state_dict()
    net = adapted(adapted(network(), "a"), "b", seed=2, targets=["qkv", "shift", "conv2"], rank=2)
    changes = {}
    for key, scales in {
        "none": {},
        "a": {"a": 1.0},
        "2a": {"a": 2.0},
        "-a": {"a": -1.0},
        "b": {"b": 1.0},
        "a+b/2": {"a": 1.0, "b": 0.5},
    }.items():
        use_adapters(net, scales)
        changes[key] = {n: v - base[n] for n, v in weights(net).items()}
        with torch.no_grad():
            direct = net(X, T)
            plain = network()
            plain.load_state_dict({n: base[n] + c for n, c in changes[key].items()})
            torch.testing.assert_close(direct, plain(X, T), atol=1e-5, rtol=0)
    assert all(not c.any() for c in changes["none"].values())
    for n in base:
        torch.testing.assert_close(changes["2a"][n], 2 * changes["a"][n], atol=1e-6, rtol=0)
        torch.testing.assert_close(changes["-a"][n], -changes["a"][n], atol=1e-6, rtol=0)
        torch.testing.assert_close(changes["a+b/2"][n], changes["a"][n] + changes["b"][n] / 2, atol=1e-6, rtol=0)
    assert adapters(net) == ["a", "b"] and not any(p.requires_grad for p in net.parameters())
    use_adapters(net, {})
    with torch.no_grad():
        assert torch.equal(net(X, T), network()(X, T))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (1, 1, 0), (3, 2, 0), (5, 1, 2), (3, 1, 0)])
def test_the_convolution_has_the_value_and_the_gradients_of_its_definition(kernel, stride, padding, memory):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, d = draw(2, 5, 6, 7).contiguous(memory_format=memory).requires_grad_(), None
    weight, bias, down, up = (
        draw(4, 5, kernel, kernel).contiguous(memory_format=memory),
        draw(4),
        draw(3, 5, kernel, kernel),
        draw(4, 3, 1, 1),
    )
    down.requires_grad_(), up.requires_grad_()
    geometry = ((stride, stride), (padding, padding), (1, 1))
    expected = F.conv2d(x, weight, bias, *geometry) + 0.7 * F.conv2d(F.conv2d(x, down, None, *geometry), up)
    d = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, (x, down, up), d)
    found = LowRankConvolution.apply(x, weight, bias, down, up, 0.7, geometry)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    for a, b in zip(torch.autograd.grad(found, (x, down, up), d), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_gradients_are_those_of_pefts_own_layers():
    ours, theirs = adapted(network()), network()
    config = LoraConfig(r=4, lora_alpha=8.0, target_modules=list(settings(theirs).layers))
    inject_adapter_in_model(config, theirs)
    theirs.load_state_dict(ours.state_dict())
    kinds = [{type(m) for m in net.modules() if isinstance(m, PeftConv2d)} for net in (ours, theirs)]
    assert kinds == [{LoRAConv2d}, {PeftConv2d}]
    found = []
    for net in (ours, theirs):
        net(X, T).square().sum().backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and all(".lora_" in n for n in found[0])
    for n, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][n], rtol=1e-3, atol=1e-4 * float(found[1][n].abs().max()))


def test_half_precision_rounds_and_no_more():
    net = adapted(network(attention=[]))
    exact = net(X, T)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(X, T)
    assert rounded.dtype == exact.dtype
    torch.testing.assert_close(rounded, exact, atol=0.05 * float(exact.abs().max()), rtol=0)
    rounded.sum().backward()
    assert all(
        p.grad.dtype == p.dtype and bool(p.grad.isfinite().all()) for n, p in net.named_parameters() if p.requires_grad
    )


def test_dropout_is_in_training_only():
    net = adapted(network(), dropout=0.5)
    assert torch.equal(net(X, T), net(X, T))
    assert not torch.equal(net.train()(X, T), net(X, T))


def test_names_choose_layers_in_the_order_of_the_network():
    net = network()
    assert chosen(net, "head") == ("head",)
    assert chosen(net, ["mix", "attentions.0.qkv"])[:2] == ("down.1.attentions.0.qkv", "down.1.attentions.0.mix")
    everything = chosen(net, ATTENTION_AND_CONVOLUTIONS)
    assert (
        "stem" not in everything
        and "down.0.resample.conv" in everything
        and not any("norm" in n or n == "skip" for n in everything)
    )
    add_adapter(net, settings(net))
    assert chosen(net, ATTENTION_AND_CONVOLUTIONS) == everything  # an adapter beside a layer does not hide it


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda net: chosen(net, ["qvk"]), r"'qvk' matches no layer of the network \(did you mean 'qkv'\?\)"),
        (lambda net: chosen(net, "transformer_blocks"), "its layers are called .*conv1"),
        (lambda net: chosen(net, "norm1"), "is no convolution or linear layer but a GroupNorm"),
        (
            lambda net: add_adapter(net, LoRASettings(layers=("down.0.blocks.0.conv3",))),
            r"did you mean 'down.0.blocks.0.conv\d'.*another network",
        ),
        (lambda net: add_adapter(net, settings(net), "a.b"), "name of an adapter"),
        (lambda net: add_adapter(adapted(net), settings(net)), "taken"),
        (lambda net: use_adapters(adapted(net), {"defualt": 1.0}), r"did you mean 'default'\?"),
        (lambda net: use_adapters(adapted(net, dora=True), {"default": 0.5}), "dora works alone"),
        (lambda net: load_adapter_state(adapted(net), {}), "missing, unexpected or of another shape"),
        (lambda net: LoRASettings(layers=("a",), alpha=0.0), "alpha positive"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(UserError, match=match) as error:
        call(network())
    assert "\n" not in str(error.value)


def test_only_layers_that_can_be_adapted_are_offered():
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Linear(2, 2))
    assert chosen(grouped, ".*") == ("1",)
