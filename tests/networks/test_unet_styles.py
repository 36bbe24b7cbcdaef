"""The U-Nets of improved DDPM, ADM and EDM: published sizes, what each option computes, gradients that are computed
again.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from common.build import build
from common.errors import UserError
from networks.layers import Attention, Downsample, ResidualBlock, TimeEmbedding
from networks.unet import UNet

IMPROVED = {
    "out_channels": 6,
    "blocks": 3,
    "attention": [1, 2],
    "heads": 4,
    "dropout": 0.3,
    "time_condition": "scale_shift",
    "init": "zero",
}
EDM = {
    "multipliers": [2, 2, 2],
    "blocks": 4,
    "attention": [1],
    "dropout": 0.13,
    "resample": "projected",
    "up_attention": "last",
    "skip_scale": math.sqrt(0.5),
    "init": "edm",
}
SMALL = {"in_channels": 3, "channels": 16, "multipliers": [1, 2], "blocks": 2, "groups": 4}


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return network


def test_published_numbers_of_parameters():
    """Nichol and Dhariwal's network with learned variance; EDM's DDPM++ without the 9 x 128 weights of its augmentation
    labels (reference 1.6).
    """
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in UNet(in_channels=3, **{k: v for k, v in o.items() if k != "init"}).parameters())
            for o in (IMPROVED, EDM)
        ]
    assert sizes == [52_546_438, 55_733_891 - 9 * 128]


@pytest.mark.parametrize(
    "style",
    [
        IMPROVED,
        EDM,
        {"resample": "residual", "head_channels": 8, "attention": [0, 1]},
        {"multipliers": [1.5, 1, 1.75], "attention": [2], "up_attention_levels": [0, 1], "head_channels": 4},
        {"multipliers": [1, 0.5], "attention": [0], "up_attention_levels": [], "middle": False, "heads": 2},
    ],
    ids=["improved", "EDM", "ADM", "any width, attention on each side its own", "no middle"],
)
def test_each_style_runs_on_odd_sizes_and_describes_itself(style):
    published = {"multipliers", "blocks", "attention", "dropout"} if style in (IMPROVED, EDM) else set()
    options = SMALL | {"attention": [1]} | {k: v for k, v in style.items() if k not in published}
    network = randomised(UNet(**options).double().eval())
    x, time = torch.randn(2, 3, 9, 14, dtype=torch.float64), torch.tensor([3.0, 800.0], dtype=torch.float64)
    out = network(x, time)
    assert out.shape == (2, style.get("out_channels", 3), 9, 14) and out.std() > 1e-3
    rebuilt = build(network.spec, UNet, where="test", project_only=True).double().eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(x, time), out)
    moved = network(x, time + 50)
    assert (moved - out).abs().max() > 1e-6, "the time must matter"


def test_a_block_is_its_equation():
    """Scale and shift, a change of resolution with projection, and the scaled sum, written out."""
    torch.manual_seed(0)
    options = {
        "groups": 4,
        "eps": 1e-5,
        "dropout": 0.0,
        "time_condition": "scale_shift",
        "resample": "down",
        "project": True,
        "skip_scale": 0.6,
    }
    block = randomised(ResidualBlock(8, 8, 5, **options).double())
    x, c = torch.randn(2, 8, 6, 6, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    h = block.conv1(F.avg_pool2d(F.silu(block.norm1(x)), 2))
    scale, shift = block.shift(c).view(2, 2, 8, 1, 1).unbind(1)
    h = block.conv2(F.silu((1 + scale) * block.norm2(h) + shift))
    torch.testing.assert_close(block(x, c), 0.6 * (block.skip(F.avg_pool2d(x, 2)) + h), atol=1e-12, rtol=0)
    up = randomised(
        ResidualBlock(8, 4, 5, **options | {"resample": "up", "project": False, "time_condition": "add"}).double()
    )
    assert up(x, c).shape == (2, 4, 12, 12)


def test_attention_is_scaled_as_a_whole():
    attention = randomised(Attention(8, heads=2, groups=4, eps=1e-5).double())
    scaled = Attention(8, heads=2, groups=4, eps=1e-5, skip_scale=0.5).double()
    scaled.load_state_dict(attention.state_dict())
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(scaled(x), 0.5 * attention(x))


def test_where_attention_is_and_how_wide_the_levels_are():
    """Each way its own levels; without a middle nothing of it is there."""
    options = SMALL | {"multipliers": [1, 1.5, 2.25], "attention": [2], "up_attention_levels": [1, 0]}
    network = UNet(**options)
    assert [level.blocks[-1].conv2.out_channels for level in network.down] == [16, 24, 36]
    assert [level.blocks[-1].conv2.out_channels for level in network.up] == [36, 24, 16]
    assert [len(level.attentions) for level in network.down] == [0, 0, 2]
    assert [len(level.attentions) for level in network.up] == [0, 3, 3]
    assert [len(level.attentions) for level in UNet(**options, up_attention="last").up] == [0, 1, 1]
    assert [len(level.attentions) for level in UNet(**options | {"up_attention_levels": None}).up] == [3, 0, 0]
    without = UNet(**options, middle=False)
    gone = set(network.state_dict()) - set(without.state_dict())
    assert gone and gone == {n for n in network.state_dict() if n.startswith("middle_")}
    # Heads need not divide the width of an attention that is not there.
    assert UNet(**SMALL | {"multipliers": [1, 1.25], "attention": [0], "heads": 16}, middle=False)
    x, time = torch.randn(1, 3, 8, 8), torch.tensor([5.0])
    randomised(without)
    bottom = []
    without.up[0].blocks[0].register_forward_pre_hook(lambda block, given: bottom.append(given[0]))
    without.down[2].blocks[1].register_forward_hook(lambda block, given, out: bottom.append(out))
    without(x, time)
    after = without.down[2].attentions[1](bottom[0])
    torch.testing.assert_close(bottom[1], torch.cat([after, after], 1), atol=0, rtol=0)  # as it was left, and as a skip


def test_initial_weights():
    edm = UNet(**SMALL, init="edm", attention=[1])
    spread = edm.down[0].blocks[0].conv1.weight
    assert spread.abs().max() <= math.sqrt(6 / (9 * (16 + 16))) + 1e-6 and spread.std() > 0.05
    assert 0 < edm.head.weight.abs().max() < 1e-4 and 0 < edm.middle_block1.conv2.weight.abs().max() < 1e-4
    ratio = edm.middle_attention.qkv.weight.std() / UNet(**SMALL, attention=[1]).middle_attention.qkv.weight.std()
    assert float(ratio) == pytest.approx(math.sqrt(0.2), rel=0.1)
    zero = UNet(**SMALL, init="zero")
    assert not zero.head.weight.any() and not zero.middle_block1.conv2.weight.any() and zero.stem.bias.any()


def test_gradients_that_are_computed_again_are_the_same():
    """Dropout included: the random state is put back for the second pass."""
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        network = UNet(**SMALL, attention=[1], dropout=0.3, checkpoint_gradients=again)
        randomised(network)
        torch.manual_seed(1)
        network(torch.ones(2, 3, 8, 8), torch.tensor([1.0, 500.0])).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
        assert "checkpoint_gradients" not in network.spec["init_args"]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("change", [None, "down", "up"])
def test_blocks_of_guided_diffusion(change):
    """Dhariwal and Nichol's residual block and attention as deepinv has them, with our weights; their normalisation
    computes in float32.
    """
    theirs = pytest.importorskip("deepinv.models.diffunet")
    torch.manual_seed(0)
    ours = randomised(
        ResidualBlock(
            32,
            64 if change is None else 32,
            16,
            groups=32,
            eps=1e-5,
            dropout=0.0,
            time_condition="scale_shift",
            resample=change,
        )
    )
    other = theirs.ResBlock(
        32,
        16,
        0.0,
        out_channels=64 if change is None else 32,
        use_scale_shift_norm=True,
        up=change == "up",
        down=change == "down",
    )
    places = [
        ("norm1", "in_layers.0"),
        ("conv1", "in_layers.2"),
        ("shift", "emb_layers.1"),
        ("norm2", "out_layers.0"),
        ("conv2", "out_layers.3"),
    ]
    names = dict([*places, ("skip", "skip_connection")])
    other.load_state_dict(
        {f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": p for name, p in ours.state_dict().items()}
    )
    x, c = torch.randn(2, 32, 6, 10), torch.randn(2, 16)
    torch.testing.assert_close(ours(x, F.silu(c)), other(x, c), atol=2e-5, rtol=1e-5)

    attention = randomised(Attention(32, heads=4, groups=32, eps=1e-5))
    other = theirs.AttentionBlock(32, num_head_channels=8)
    weights = {
        n.replace("mix", "proj_out"): p.flatten(2) if p.ndim > 1 else p for n, p in attention.state_dict().items()
    }
    for kind in ("weight", "bias"):  # theirs: q, k and v of a head stand together
        qkv = weights[f"qkv.{kind}"]
        weights[f"qkv.{kind}"] = qkv.unflatten(0, (3, 4, 8)).transpose(0, 1).flatten(0, 2)
    other.load_state_dict(weights)
    torch.testing.assert_close(attention(x), other(x), atol=2e-5, rtol=1e-5)


def test_adm_for_256_has_the_size_of_guided_diffusion_s():
    """deepinv's DiffUNet is the network of the FFHQ prior that DPS and others use; ours of the same style has as many
    parameters.
    """
    theirs = pytest.importorskip("deepinv.models.diffunet")
    style = {"time_condition": "scale_shift", "resample": "residual", "head_channels": 64, "norm_eps": 1e-5}
    with torch.device("meta"):
        ours = UNet(in_channels=3, out_channels=6, multipliers=[1, 1, 2, 2, 4, 4], blocks=1, attention=[4], **style)
        other = theirs.DiffUNet(in_channels=3, out_channels=6, pretrained=None)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in other.parameters()) == 93_563_910


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"head_channels": 8, "heads": 2}, "head_channels"),
        ({"head_channels": 5}, "head_channels must divide"),
        ({"skip_scale": 0.0}, "skip_scale"),
        ({"time_condition": "film"}, "time_condition"),
        ({"resample": "pool"}, "resample"),
        ({"init": "he"}, "init"),
        ({"up_attention": "first"}, "up_attention"),
        ({"multipliers": [1, 1.3]}, r"multipliers\[1\] .* got 1.3, which makes 20.8"),
        ({"multipliers": [1, float("inf")]}, r"multipliers\[1\]"),
        ({"multipliers": [1, -1]}, r"multipliers\[1\]"),
        ({"up_attention_levels": [2]}, "attention level 2 does not exist"),
        ({"up_attention_levels": [0], "heads": 32, "attention": []}, "heads must divide the 16 channels"),
    ],
)
def test_nonsense_is_refused(options, word):
    with pytest.raises(UserError, match=word):
        UNet(**SMALL | options)


def test_waves_of_adm():
    """[cos | sin] of t f_k, f_k = 10000^(-k / half), of a time that may be scaled before."""
    embedding = TimeEmbedding(8, 3, waves="adm", scale=0.25).double()
    time = torch.tensor([0.0, 3.0, 999.0])
    f = 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    phase = 0.25 * time[:, None].double() * f
    expected = embedding.linear2(F.silu(embedding.linear1(torch.cat([phase.cos(), phase.sin()], 1))))
    # its waves are float32: t f has an error of 6e-5
    torch.testing.assert_close(embedding(time), expected, atol=1e-4, rtol=0)


def test_padding_on_all_sides():
    down = Downsample(2, "both").double()
    x = torch.randn(1, 2, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(down(x), F.conv2d(F.pad(x, (1, 1, 1, 1)), down.conv.weight, down.conv.bias, stride=2))
    assert down(x).shape == (1, 2, 3, 2)


def test_classes_without_a_row_for_none():
    network = UNet(**SMALL, num_classes=3, null_class=False)
    assert network.label_embedding.num_embeddings == 3
    x, time = torch.randn(2, 3, 8, 8), torch.zeros(2)
    for label in (None, torch.tensor([0, -1])):
        with pytest.raises(ValueError, match="give every image a label"):
            network(x, time, label)
    assert network(x, time, torch.tensor([0, 2])).shape == x.shape
    assert UNet(**SMALL, null_class=False).null_class  # nothing is missing where there are no classes


def test_time_has_its_own_width():
    network = UNet(**SMALL, time_channels=24, time_waves="adm")
    assert network.time_embedding.linear1.weight.shape == (96, 24)


@pytest.mark.parametrize(
    "options",
    [
        {"downsample_padding": "start"},
        {"time_waves": "square"},
        {"time_channels": 5},
        {"time_channels": 2},
        {"time_scale": 0.0},
    ],
)
def test_options_of_time_and_padding_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        UNet(**SMALL, **options)
