"""Parity with diffusers' own UNet2DModel under random weights, bit-exact round trips, and refusals."""

import pytest
import torch

from checkpoints.foreign.diffusers_config import unet_from_diffusers, unet_to_diffusers
from checkpoints.foreign.diffusers_layout import state_dict_from_diffusers, state_dict_to_diffusers
from common.errors import UserError
from networks.unet import UNet

TIMES = [0, 1, 500, 999]

# What unet/config.json of google/ddpm-cifar10-32 says (reference sheet 1.9).
CIFAR10 = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = CIFAR10 | {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8}


def reference(config):
    """diffusers' network with every parameter random, biases and normalisations too."""
    pytest.importorskip("diffusers")
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(**{k: v for k, v in config.items() if not k.startswith("_")}).eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.ndim == 1:
                p.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return network


def converted(theirs, config):
    ours = UNet(**unet_from_diffusers(config)).eval()
    ours.load_state_dict(state_dict_from_diffusers(theirs.state_dict(), config=config))
    return ours


def largest_difference(theirs, ours, dtype):
    x = torch.randn(len(TIMES), 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(1))
    time = torch.tensor(TIMES)
    with torch.no_grad():
        expected, got = theirs(x, time).sample, ours(x, time.to(dtype))
    assert expected.std() > 0.05  # a network that says nothing would agree with everything
    assert got.dtype == dtype
    return (expected - got).abs().max().item()


def test_cifar10_network_in_float32():
    """Ho et al.'s network as released, 35,746,307 parameters in 328 tensors."""
    theirs = reference(CIFAR10)
    assert len(theirs.state_dict()) == 328
    ours = converted(theirs, CIFAR10)
    assert sum(p.numel() for p in ours.parameters()) == 35_746_307
    assert largest_difference(theirs, ours, torch.float32) < 1e-5
    back = state_dict_to_diffusers(ours.state_dict())
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[k], v) for k, v in theirs.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {
            "attention_head_dim": 16,
            "down_block_types": ["DownBlock2D"] * 3 + ["AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D"] + ["UpBlock2D"] * 3,
        },
        {"layers_per_block": 1, "norm_eps": 1e-3, "act_fn": "swish"},
        {"block_out_channels": [16, 48], "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2},
        {"down_block_types": ["DownBlock2D"] * 4, "up_block_types": ["UpBlock2D"] * 4, "add_attention": False},
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 8},
        {
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "attn_norm_num_groups": 8,
            "attention_head_dim": 8,
            "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        },
        {  # what diffusers' own training example builds: its defaults
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "attention_head_dim": 8,
            "block_out_channels": [16, 32, 64, 64],
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        },
    ],
    ids=["released", "two heads", "one block", "two levels", "no attention", "scale and shift", "ADM", "defaults"],
)
def test_the_same_function_in_float64(change):
    config = SMALL | change
    theirs = reference(config).double()
    ours = converted(theirs, config).double()
    assert largest_difference(theirs, ours, torch.float64) < 1e-10


RESIDUAL = {"down_block_types": ["ResnetDownsampleBlock2D"] * 4, "up_block_types": ["ResnetUpsampleBlock2D"] * 4}
OTHERS = {
    "widths": {"block_out_channels": [16, 24, 40, 56], "attention_head_dim": 8},
    "widths below the first": {"block_out_channels": [32, 24, 16, 48]},
    "attention on the way down": {"up_block_types": ["UpBlock2D"] * 4},
    "attention on the way up": {"down_block_types": ["DownBlock2D"] * 4, "attention_head_dim": 16},
    "attention of other levels": {"up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D", "AttnUpBlock2D"]},
    "no middle": {"mid_block_type": None},
    "no middle, and what it would have": {
        "mid_block_type": None,
        "add_attention": False,
        "attn_norm_num_groups": 5,
        "mid_block_scale_factor": 1.4142,
        "resnet_time_scale_shift": "scale_shift",
    },
    "no middle and no attention": {
        "mid_block_type": None,
        "down_block_types": ["DownBlock2D"] * 4,
        "up_block_types": ["UpBlock2D"] * 4,
        "attention_head_dim": 5,
    },
    "residual blocks change resolution": RESIDUAL,
    "the same, padding told": RESIDUAL | {"downsample_padding": 1},
    "the last block does not change resolution": {
        "down_block_types": ["DownBlock2D"] * 3 + ["ResnetDownsampleBlock2D"],
        "up_block_types": ["UpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
    },
    "names of the first releases": {
        "down_block_types": [
            "UNetResDownBlock2D",
            "UNetResAttnDownBlock2D",
            "UNetResDownBlock2D",
            "UNetResDownBlock2D",
        ],
        "up_block_types": ["UNetResUpBlock2D", "UNetResUpBlock2D", "UNetResAttnUpBlock2D", "UNetResUpBlock2D"],
    },
    "all at once": {
        "block_out_channels": [24, 16, 40],
        "mid_block_type": None,
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 8,
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_networks_that_ours_are_not_made_like(name):
    """The same function; so is that of the config and weights that we write; and they are the same network of ours."""
    config = SMALL | OTHERS[name]
    theirs = reference(config).double()
    ours = converted(theirs, config)
    written = unet_to_diffusers(ours, size=(32, 32))
    assert largest_difference(theirs, ours.double(), torch.float64) < 1e-10
    again = reference(written)
    again.load_state_dict(state_dict_to_diffusers(ours.state_dict()))  # with every name and shape
    assert largest_difference(again.double(), ours, torch.float64) < 1e-10
    assert unet_from_diffusers(written) == unet_from_diffusers(config)


@pytest.mark.parametrize(
    "change",
    [
        {"down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D", "DownBlock2D"]},
        {"up_block_types": ["ResnetUpsampleBlock2D"] * 3 + ["UpBlock2D"]},
        {"downsample_type": "resnet"},  # of the one block with attention, on one side
        RESIDUAL | {"down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"] * 2},
    ],
)
def test_more_than_one_way_to_change_resolution_is_refused(change):
    with pytest.raises(UserError, match=r"some blocks .* with a convolution and some with a residual block") as error:
        unet_from_diffusers(SMALL | change)
    assert all(str(value) in str(error.value) for value in change.values())


def test_grey_and_another_number_of_outputs():
    config = SMALL | {"in_channels": 1, "out_channels": 2}
    theirs = reference(config).double()
    ours = converted(theirs, config).double()
    x = torch.randn(2, 1, 16, 8, dtype=torch.float64)
    time = torch.tensor([3, 700])
    with torch.no_grad():
        assert (theirs(x, time).sample - ours(x, time)).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_round_trip_of_our_weights_is_bit_exact_and_owns_its_memory(dtype):
    ours = UNet(in_channels=1, channels=16, multipliers=[1, 2], groups=8).to(dtype)
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_()
    there = state_dict_to_diffusers(ours.state_dict())
    back = state_dict_from_diffusers(there)
    assert back.keys() == ours.state_dict().keys()
    for name, value in ours.state_dict().items():
        assert back[name].dtype == dtype and torch.equal(back[name], value)
    for tensors in (there, back):  # as safetensors wants them
        assert all(t.is_contiguous() for t in tensors.values())
        assert len({t.untyped_storage().data_ptr() for t in tensors.values()}) == len(tensors)


def test_attention_under_its_old_names():
    theirs = state_dict_to_diffusers(UNet(in_channels=1, channels=16, multipliers=[1, 2], groups=8).state_dict())
    old = {}
    for name, value in theirs.items():
        for today, before in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            name = name.replace(f".{today}.", f".{before}.")
        old[name] = value
    assert old.keys() != theirs.keys()
    a, b = state_dict_from_diffusers(theirs), state_dict_from_diffusers(old)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("downsample_padding", 2),
        ("flip_sin_to_cos", True),
        ("freq_shift", 0),
        ("time_embedding_type", "fourier"),
        ("center_input_sample", True),
        ("mid_block_scale_factor", 1.4142),
        ("resnet_time_scale_shift", "other"),
        ("act_fn", "gelu"),
        ("num_class_embeds", 10),
        ("time_embedding_dim", 100),
        ("norm_num_groups", 24),
        ("attention_head_dim", 5),
        ("norm_num_groups", None),
        ("down_block_types", ["SkipDownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"]),
        ("up_block_types", ["UpBlock2D", "UpBlock2D", "AttnSkipUpBlock2D", "UpBlock2D"]),
        ("mid_block_type", "UNetMidBlock2DCrossAttn"),
        ("downsample_type", "kernel"),
        ("a_new_option", 3),
    ],
)
def test_what_is_not_implemented_is_refused_by_key_and_value(key, value):
    with pytest.raises(UserError, match=key) as error:
        unet_from_diffusers(SMALL | {key: value})
    assert str(value) in str(error.value)


def test_a_key_left_out_means_the_default_of_diffusers():
    """The defaults compute something else with the same weights, so they must not pass for the released model."""
    assert (
        unet_from_diffusers({k: v for k, v in SMALL.items() if k != "downsample_padding"})["downsample_padding"]
        == "both"
    )
    assert "downsample_padding" not in unet_from_diffusers(SMALL)
    waves = ("flip_sin_to_cos", "freq_shift")
    assert unet_from_diffusers({k: v for k, v in SMALL.items() if k not in waves})["time_waves"] == "adm"
    for key in waves:  # one of them alone: neither Ho's waves nor ADM's
        with pytest.raises(UserError, match=key):
            unet_from_diffusers({k: v for k, v in SMALL.items() if k != key})


def test_default_head_size_and_eps():
    arguments = unet_from_diffusers({k: v for k, v in SMALL.items() if k not in ("attention_head_dim", "norm_eps")})
    assert arguments["heads"] == 4 and arguments["norm_eps"] == 1e-5  # 32 channels, 8 per head


def test_missing_unexpected_and_misshapen_weights_are_named():
    config = SMALL
    weights = state_dict_to_diffusers(UNet(**unet_from_diffusers(config)).state_dict())

    def without(name):
        return {k: v for k, v in weights.items() if k != name}

    with pytest.raises(UserError, match=r"missing: mid_block\.attentions\.0\.to_k\.bias$"):
        state_dict_from_diffusers(without("mid_block.attentions.0.to_k.bias"))
    with pytest.raises(UserError, match=r"missing: conv_out\.bias$"):
        state_dict_from_diffusers(without("conv_out.bias"), config=config)
    with pytest.raises(UserError, match=r"unexpected: encoder\.weight$"):
        state_dict_from_diffusers(weights | {"encoder.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"unexpected: down_blocks\.9\.resnets\.0\.conv1\.weight$"):
        state_dict_from_diffusers(weights | {"down_blocks.9.resnets.0.conv1.weight": torch.zeros(1)}, config=config)
    with pytest.raises(UserError, match=r"conv_in\.weight has shape \[16, 1, 3, 3\], expected \[16, 3, 3, 3\]"):
        state_dict_from_diffusers(weights | {"conv_in.weight": weights["conv_in.weight"][:, :1]}, config=config)
    with pytest.raises(UserError, match=r"unexpected: label_embedding\.weight$"):
        state_dict_to_diffusers(UNet(in_channels=1, channels=8, multipliers=[1, 1], num_classes=3).state_dict())
