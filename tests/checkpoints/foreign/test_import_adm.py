"""Priors of guided-diffusion: parity with deepinv's DiffUNet, which keeps that project's names, under random weights;
presets, side-cars, refusals.
"""

import inspect

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_trainer
from PIL import Image
from torch import nn

from callbacks.ema import EMA
from checkpoints.foreign.adm_flags import PRESETS, Flags
from checkpoints.foreign.adm_layout import names_of_adm, network_of_adm
from checkpoints.foreign.import_adm import read_adm
from checkpoints.load import describes_cold_restorer, load_prior
from common.errors import UserError
from datamodules.image_folder import ImageFolder
from diffusion.denoiser import Condition
from diffusion.schedules import Cosine, Linear
from lightning_modules.lora_fine_tuning import LoRAFineTuning
from networks.unet import UNet

# Constants in deepinv's constructor, which has no arguments for them, and small ones in their place.
SMALL = {
    "model_channels = 128": "model_channels = 32",
    "num_res_blocks = 1": "num_res_blocks = 1",
    'attention_resolutions = "16"': 'attention_resolutions = "128,64"',
    "num_head_channels = 64": "num_head_channels = 16",
    "channel_mult = (1, 1, 2, 2, 4, 4)": "channel_mult = (1, 1, 2)",
}
FLAGS = {
    "image_size": 256,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,1,2",
    "attention_resolutions": "128,64",
    "num_head_channels": 16,
    "learn_sigma": True,
    "class_cond": False,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}


def randomised(network):
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in network.named_parameters():
            scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.2
            p.copy_(torch.randn(p.shape) * scale + (1.0 if p.ndim == 1 and name.endswith("weight") else 0.0))
    return network.eval()


def reference(*, double=False, **changes):
    """deepinv's network built by its own source with other constants; with every weight random."""
    pytest.importorskip("deepinv")
    import deepinv.models.diffunet as module

    source = inspect.getsource(module.DiffUNet)
    for old, new in (SMALL | changes).items():
        assert old in source, old
        source = source.replace(old, new)
    space = dict(vars(module))
    if double:
        space["timestep_embedding"] = lambda *args: module.timestep_embedding(*args).double()
    exec(compile(source, "diffunet", "exec"), space)
    network = randomised(space["DiffUNet"](pretrained=None))
    if not double:
        return network
    network.dtype = torch.float64
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.__class__ = nn.GroupNorm  # theirs goes through float32
    return network.double()


def weights(network):
    """What guided-diffusion saves: parameters; deepinv has two tables beside them."""
    return {name: value.float() for name, value in network.state_dict().items() if not name.startswith("sqrt_")}


def saved(network, path, **flags):
    torch.save(weights(network), path)
    if flags:
        path.with_suffix(".yaml").write_text(yaml.safe_dump(flags))
    return path


STYLES = {
    "ffhq": ({}, {}),
    "new order of attention": (
        {"use_new_attention_order = False": "use_new_attention_order = True"},
        {"use_new_attention_order": True},
    ),
    "four heads": ({"num_head_channels = 64": "num_head_channels = -1"}, {"num_head_channels": -1, "num_heads": 4}),
    "added time": ({"use_scale_shift_norm = True": "use_scale_shift_norm = False"}, {"use_scale_shift_norm": False}),
    "convolutions": ({"resblock_updown = True": "resblock_updown = False"}, {"resblock_updown": False}),
    "two blocks": (
        {
            "num_res_blocks = 1": "num_res_blocks = 2",
            'attention_resolutions = "16"': 'attention_resolutions = "256,64"',
        },
        {"num_res_blocks": 2, "attention_resolutions": "256,64"},
    ),
    "half of the width": (  # as for 512 x 512
        {
            "model_channels = 128": "model_channels = 64",
            "channel_mult = (1, 1, 2, 2, 4, 4)": "channel_mult = (0.5, 1, 2)",
        },
        {"num_channels": 64, "channel_mult": "0.5,1,2"},
    ),
    "widths that are no multiples of the first": (
        {
            "model_channels = 128": "model_channels = 64",
            "channel_mult = (1, 1, 2, 2, 4, 4)": "channel_mult = (1, 1.501, 2.5)",
        },
        {"num_channels": 64, "channel_mult": "1,1.501,2.5"},
    ),
    "one level": (
        {"channel_mult = (1, 1, 2, 2, 4, 4)": "channel_mult = (1,)"},
        {"channel_mult": "1", "attention_resolutions": "128,64"},
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_same_function_in_float64(style, tmp_path):
    changes, flags = STYLES[style]
    theirs = reference(double=True, **changes)
    ours = load_prior(saved(theirs, tmp_path / "a.pt", **(FLAGS | flags))).denoiser.network.double()
    # Of their own padding nothing is seen at a size that the network can halve.
    x, time = torch.randn(2, 3, 16, 8, dtype=torch.float64), torch.tensor([3.0, 700.0], dtype=torch.float64)
    with torch.no_grad():
        expected, got = theirs.forward_diffusion(x, time), ours(x, time)
    assert expected.shape == (2, 6, 16, 8) and expected.std() > 0.05
    assert (expected - got).abs().max() < 1e-10


def test_the_network_of_ffhq_as_released(tmp_path):
    """deepinv's own DiffUNet, untouched: the layout of ffhq_10m.pt, by the preset of its name, in float32."""
    pytest.importorskip("deepinv")
    from deepinv.models import DiffUNet

    theirs = randomised(DiffUNet(pretrained=None))
    prior = load_prior(saved(theirs, tmp_path / "ffhq_10m.pt"), preset="ffhq_256")
    denoiser = prior.denoiser
    assert (
        denoiser.data_shape == (3, 256, 256)
        and denoiser.learns_variance
        and denoiser.prediction == "epsilon"
        and isinstance(denoiser.schedule, Linear)
    )
    assert (
        sum(p.numel() for p in denoiser.network.parameters())
        == sum(p.numel() for p in theirs.parameters())
        == 93_563_910
    )
    assert prior.description["data"]["name"] == "FFHQ"
    x, time = torch.randn(1, 3, 32, 64), torch.tensor([400])
    with torch.no_grad():
        expected = theirs.forward_diffusion(x, time)
        assert expected.std() > 0.05
        assert (expected - denoiser.network(x, time.float())).abs().max() < 1e-5
        # In our terms: x = x0 + sigma noise; the second half of the output is 2 u - 1.
        sigma = denoiser.schedule.sigma_of(time).float()
        found = denoiser.predict(x * (1 + sigma.square()).sqrt().view(-1, 1, 1, 1), sigma)
    assert (found.eps - expected[:, :3]).abs().max() < 1e-5 and (
        found.fraction - (expected[:, 3:] + 1) / 2
    ).abs().max() < 1e-5


def test_classes(tmp_path):
    """Every class has its row and there is none for no class, so that a label is needed."""
    theirs = reference(**{"num_classes = None": "num_classes = 5"})
    prior = load_prior(saved(theirs, tmp_path / "a.pt", **(FLAGS | {"class_cond": True})))
    x, time, label = torch.randn(2, 3, 8, 8), torch.tensor([5.0, 900.0]), torch.tensor([4, 0])
    with torch.no_grad():
        assert (theirs.forward_diffusion(x, time, label) - prior.denoiser.network(x, time, label)).abs().max() < 1e-5
        with pytest.raises(ValueError, match="give every image a label"):
            prior.denoiser.predict(x, torch.tensor([1.0, 1.0]))
        prior.denoiser.predict(x, torch.tensor([1.0, 1.0]), Condition(label=label))


def test_time_of_improved_diffusion(tmp_path):
    """rescale_timesteps with T = 4000: time t is seen as t / 4."""
    theirs = reference()
    path = saved(
        theirs, tmp_path / "a.pt", **FLAGS, rescale_timesteps=True, diffusion_steps=4000, noise_schedule="cosine"
    )
    denoiser = load_prior(path).denoiser
    assert isinstance(denoiser.schedule, Cosine) and denoiser.num_timesteps == 4000
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert (
            theirs.forward_diffusion(x, torch.tensor([777.25])) - denoiser.network(x, torch.tensor([3109.0]))
        ).abs().max() < 1e-5


def test_an_imported_prior_becomes_one_of_ours(tmp_path):
    """Its description builds the same network, so that it can be exported, adapted and named in checkpoints."""
    from checkpoints.files import write_safetensors

    path = saved(reference(), tmp_path / "a.pt", **FLAGS)
    first = load_prior(path)
    write_safetensors(tmp_path / "b.safetensors", first.denoiser.network, first.description, dtype=torch.float32)
    second = load_prior(tmp_path / "b.safetensors")
    assert second.description == first.description and not describes_cold_restorer(path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.denoiser.state_dict().values(), second.denoiser.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("preset", [None, "small"])
def test_an_adapter_is_trained_beside_it(preset, tmp_path, monkeypatch):
    """From weights of guided-diffusion and a preset, or a YAML file beside them, to a prior, without converting them
    first.
    """
    monkeypatch.setitem(PRESETS, "small", {**FLAGS, "image_size": 8, "attention_resolutions": "4,2"})
    theirs = reference()
    path = saved(theirs, tmp_path / "theirs.pt", **({} if preset else {"preset": "small"}))
    torch.manual_seed(0)
    module = LoRAFineTuning(
        prior=str(path),
        preset=preset,
        rank=2,
        training={"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"sampling_steps": 2}},
    )
    assert module.inner.denoiser.learns_variance
    trainer = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0)
    for k in range(6):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    trainer.fit(module, datamodule=ImageFolder(folder=str(tmp_path), size=8, batch_size=2, test_images=1, validation=1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    found = load_prior(tmp_path / "a.ckpt", weights="raw")
    x, sigma = torch.randn(1, 3, 8, 8), torch.tensor([0.5])
    torch.testing.assert_close(
        found.denoiser.predict(x, sigma).x0, module.eval().inner.denoiser.predict(x, sigma).x0, atol=1e-4, rtol=0
    )
    assert found.description["training"]["from"].get("preset") == preset
    assert not torch.allclose(
        found.denoiser.predict(x, sigma).x0, load_prior(path, preset=preset).denoiser.predict(x, sigma).x0, atol=1e-6
    )


def test_the_fingerprint_is_of_all_that_was_read(tmp_path):
    theirs = reference()
    path = saved(theirs, tmp_path / "a.pt", **FLAGS)
    first = load_prior(path).fingerprint
    assert load_prior(path).fingerprint == first
    path.with_suffix(".yaml").write_text(yaml.safe_dump(FLAGS | {"diffusion_steps": 500}))
    second = load_prior(path).fingerprint
    with torch.no_grad():
        theirs.out[2].bias += 1
    saved(theirs, path)
    assert len({first, second, load_prior(path).fingerprint}) == 3


# Parameters: table 4 of the ADM paper has 296 M, 422 M, 554 M and 559 M with classes.
SIZES = {
    "ffhq_256": 93_563_910,
    "imagenet_256_uncond": 552_814_086,
    "imagenet_256": 553_838_086,
    "imagenet_512": 558_997_638,
    "imagenet_128": 421_529_606,
    "imagenet_64": 295_904_454,
    "lsun_256": 552_814_086,
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_network_that_is_found_again(name):
    """The network of the flags, its names as in their files: names and shapes show it again, and it has the published
    size.
    """
    flags = Flags(**PRESETS[name])
    multipliers = {512: [0.5, 1, 1, 2, 2, 4, 4], 256: [1, 1, 2, 2, 4, 4], 128: [1, 1, 2, 3, 4], 64: [1, 2, 3, 4]}[
        flags.image_size
    ]
    channels = int(multipliers[0] * flags.num_channels)
    resolutions = [int(r) for r in flags.attention_resolutions.split(",")]
    options = {
        "in_channels": 3,
        "out_channels": 6,
        "channels": channels,
        "multipliers": [int(m * flags.num_channels) // channels for m in multipliers],
        "blocks": flags.num_res_blocks,
        "attention": [k for k in range(len(multipliers)) if flags.image_size >> k in resolutions],
        "groups": 32,
        "norm_eps": 1e-5,
        "num_classes": 1000 if flags.class_cond else None,
        "null_class": False,
        "time_condition": "scale_shift",
        "resample": "residual",
        "downsample_padding": "both",
        "time_waves": "adm",
        "time_channels": flags.num_channels,
        "init": "zero",
    }
    with torch.device("meta"):
        network = UNet(**options, **flags.heads)
    assert sum(p.numel() for p in network.parameters()) == SIZES[name]
    theirs = {ours: name for name, ours in names_of_adm(options).items()}
    state = {f"{theirs[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in network.state_dict().items()}
    assert network_of_adm(state, "it") == options
    assert flags.disagreements(options) == []
    others = [n for n in PRESETS if n != name and Flags(**PRESETS[n]).disagreements(options) == []]
    assert others == {"imagenet_256_uncond": ["lsun_256"], "lsun_256": ["imagenet_256_uncond"]}.get(name, [])


# --- refusals


@pytest.fixture(scope="module")
def state():
    return weights(reference())


def write(state, tmp_path, flags=FLAGS):
    torch.save(state, tmp_path / "a.pt")
    if flags is not None:
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(flags))
    return tmp_path / "a.pt"


def test_keys_are_named(state, tmp_path):
    name = "output_blocks.1.0.out_layers.3.weight"
    with pytest.raises(UserError, match=r"it lacks 'output_blocks.1.0.out_layers.3.weight' \(1 of them\)"):
        load_prior(write({k: v for k, v in state.items() if k != name}, tmp_path))
    with pytest.raises(UserError, match=r"unexpected 'encoder_pool.weight' \(1 of them\)"):
        load_prior(write(state | {"encoder_pool.weight": torch.zeros(3)}, tmp_path))
    with pytest.raises(UserError, match=r"'head.bias' has shape \[5\]"):
        load_prior(write(state | {"out.2.bias": torch.zeros(5)}, tmp_path))
    with pytest.raises(UserError, match="not finite in 'head"):
        load_prior(write(state | {"out.2.bias": torch.full((6,), torch.nan)}, tmp_path))
    with pytest.raises(UserError, match="entry 'step' is a int"):
        load_prior(write(state | {"step": 3}, tmp_path))


def test_what_is_no_unconditional_unet(state, tmp_path):
    with pytest.raises(UserError, match="no output_blocks: it is a classifier"):
        load_prior(write({k: v for k, v in state.items() if not k.startswith("output")}, tmp_path))
    with pytest.raises(UserError, match="takes 6 channels: it is an upsampler"):
        load_prior(write(state | {"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}, tmp_path))
    with pytest.raises(UserError, match="do not make a U-Net"):
        load_prior(
            write(
                {k: v for k, v in state.items() if not k.startswith("input_blocks.3.")}
                | {"input_blocks.9.x": torch.zeros(1)},
                tmp_path,
            )
        )
    with pytest.raises(UserError, match="neither a checkpoint that"):
        load_prior(write({"weight": torch.zeros(1)}, tmp_path))


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_would_run_code_is_refused_and_nothing_runs(state, tmp_path, capsys):
    with pytest.raises(UserError, match="nothing of it was run"):
        load_prior(write(state | {"extra": Evil()}, tmp_path))
    assert "code ran" not in capsys.readouterr().out


def test_without_flags_the_presets_are_told(state, tmp_path):
    with pytest.raises(UserError, match=r"give a preset \(ffhq_256, imagenet_256_uncond.*write 'a.yaml' beside it"):
        load_prior(write(state, tmp_path, flags=None))


def test_a_wrong_preset_is_refused_with_what_differs(state, tmp_path):
    with pytest.raises(
        UserError,
        match=r"the preset 'ffhq_256' is not that of .*num_channels is 128 and the weights have 32.*no preset agrees",
    ):
        load_prior(write(state, tmp_path, flags=None), preset="ffhq_256")
    with pytest.raises(UserError, match=r"no preset 'ffhq_265' \(did you mean 'ffhq_256'"):
        load_prior(write(state, tmp_path, flags=None), preset="ffhq_265")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_res_blocks", 2, "num_res_blocks is 2 and the weights have 1"),
        ("class_cond", True, "class_cond is True and the weights have False"),
        ("channel_mult", "1,2,2", "channel_mult is 1,2,2 and the weights have 1,1,2"),
        ("learn_sigma", False, "learn_sigma is False"),
        ("attention_resolutions", 64, "attention_resolutions is 64 and the weights have 128,64"),
        ("resblock_updown", False, "resblock_updown is False"),
        ("num_head_channels", 5, "head_channels"),
        ("noise_schedule", "sqrt", "noise_schedule"),
        ("image_size", 0, "image_size must be positive"),
        ("nois_schedule", "linear", "did you mean 'noise_schedule'"),
        ("preset", "imagenet", "no preset 'imagenet'"),
        ("num_heads_upsample", 2, None),
    ],
)
def test_flags_beside_the_file_that_do_not_fit(key, value, words, state, tmp_path):
    path = write(state, tmp_path, FLAGS | {key: value})
    if words is None:  # heads of a given width are as many as there are
        load_prior(path)
        return
    with pytest.raises(UserError) as error:
        load_prior(path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_flags_that_do_not_matter_may_stand_there(state, tmp_path):
    """The files of DPS have them."""
    more = {
        "use_checkpoint": False,
        "use_fp16": True,
        "model_path": "models/ffhq_10m.pt",
        "num_heads": 4,
        "num_heads_upsample": -1,
        "dropout": 0.0,
    }
    assert load_prior(write(state, tmp_path, FLAGS | more)).denoiser.data_shape == (3, 256, 256)


def test_a_preset_with_flags_over_it(state, tmp_path):
    found = read_adm(write(state, tmp_path, FLAGS | {"preset": "imagenet_64", "use_new_attention_order": False}))
    assert isinstance(found.schedule, Cosine) and found.data == "ImageNet"


def test_a_preset_for_what_describes_itself(tmp_path):
    from helpers import write_tiny_prior

    with pytest.raises(UserError, match="describes itself: leave the preset out"):
        load_prior(write_tiny_prior(tmp_path / "p.safetensors"), preset="ffhq_256")


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no prior at"):
        load_prior(tmp_path / "absent.pt")
