"""Folders for diffusers: what DDPMPipeline draws from them, bit-exact round trips, the model card, refusals."""

import json

import pytest
import torch
import yaml
from helpers import ROOT, call, one_sentence, tiny_denoiser

from checkpoints.files import write_safetensors
from checkpoints.foreign.diffusers_config import unet_from_diffusers, unet_to_diffusers
from checkpoints.foreign.export_diffusers import write_diffusers
from checkpoints.load import load_prior
from checkpoints.prior import LoadedPrior, describe_prior
from common.errors import UserError
from common.random_streams import RandomStreams
from diffusion.assemble import assemble
from diffusion.drawing import draw
from diffusion.edm import LogNormal
from diffusion.flow import UniformTimes
from diffusion.levels import spaced_sigmas
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.schedules import Cosine, Linear, ScaledLinear, SigmoidAlphaBar, SigmoidBeta, ZeroTerminalSNR
from networks.unet import UNet

SMALL = {"in_channels": 1, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4}


def prior_of(
    *, schedule=None, prediction="epsilon", shape=(1, 8, 8), variance="fixed", training=None, **network
) -> LoadedPrior:
    """A random prior whose output is of the size of its input."""
    options = SMALL | {"in_channels": shape[0], "out_channels": shape[0] * (1 + (variance != "fixed"))} | network
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(**options)
        with torch.no_grad():
            for p in unet.parameters():
                p.add_(torch.randn_like(p) * (0.2 if p.ndim == 1 else 0.5 * p[0].numel() ** -0.5))
    denoiser = assemble(
        network=unet, schedule=schedule or Linear(), prediction=prediction, data_shape=shape, variance=variance
    ).eval()
    return LoadedPrior(denoiser, describe_prior(denoiser, data="Digits", training=training), "fingerprint")


def pipeline_images(folder, monkeypatch, noises, *, steps):
    """What diffusers' own pipeline draws, [-1, 1], when its generator gives these numbers."""
    pytest.importorskip("diffusers")
    import diffusers.pipelines.ddpm.pipeline_ddpm as pipeline
    import diffusers.schedulers.scheduling_ddpm as scheduling

    given = iter(noises)
    for module in (pipeline, scheduling):
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **options: next(given))
    opened = pipeline.DDPMPipeline.from_pretrained(folder, local_files_only=True)
    opened.set_progress_bar_config(disable=True)
    images = opened(batch_size=2, num_inference_steps=steps, output_type="pt").images
    assert len(list(given)) < 2
    return images * 2 - 1


WORLDS = {
    "linear": {},
    "every time": {"schedule": Linear(steps=200), "steps": 200},
    "cosine, v": {"schedule": Cosine(), "prediction": "v"},
    "x0, another table": {"schedule": SigmoidAlphaBar(), "prediction": "x0"},
    "sigmoid": {"schedule": SigmoidBeta(steps=100)},
    "scaled linear, 100 times": {"schedule": ScaledLinear(steps=100), "steps": 100},
    "zero terminal SNR": {"schedule": ZeroTerminalSNR(schedule=ScaledLinear()), "prediction": "v"},
    "learned variance": {"schedule": Cosine(), "variance": "learned_range", "in_channels": 3, "shape": (3, 8, 16)},
    "improved DDPM": {"time_condition": "scale_shift", "heads": 2, "blocks": 2, "init": "zero", "norm_eps": 1e-5},
    "ADM": {
        "time_condition": "scale_shift",
        "resample": "residual",
        "time_waves": "adm",
        "head_channels": 8,
        "attention": [0, 1],
        "downsample_padding": "both",
    },
    "diffusers' defaults": {"time_waves": "adm", "downsample_padding": "both", "head_channels": 4, "attention": [0, 1]},
    "no attention": {"attention": [], "middle_attention": False},
    "widths that are no multiples, attention on the way up": {
        "multipliers": [1, 1.5],
        "attention": [],
        "up_attention_levels": [0],
        "middle_attention": False,
        "heads": 2,
    },
    "attention on the way down, no middle": {
        "up_attention_levels": [],
        "up_attention": "last",  # of none
        "middle": False,
        "time_condition": "scale_shift",
    },
}


@pytest.mark.parametrize("world", WORLDS)
def test_the_pipeline_of_diffusers_draws_our_images(world, tmp_path, monkeypatch):
    options = dict(WORLDS[world])
    steps = options.pop("steps", 20)
    prior = prior_of(**options)
    denoiser, random, index = prior.denoiser, RandomStreams(3), [5, 9]
    sigmas = spaced_sigmas(denoiser, steps, "leading" if denoiser.learns_variance else "trailing")
    sampler = AncestralDDPM(variance="learned" if denoiser.learns_variance else "fixed_small")
    ours = draw(denoiser, sampler, sigmas, index=index, random=random, device="cpu").clamp(-1, 1)

    start = random.normal_batch("generation start", index, [0, 0], denoiser.data_shape)
    with random.sequence("generation", index, [0, 0], denoiser.data_shape, "cpu") as noise:
        noises = [start, *(noise.next() for _ in range(steps))]  # theirs may ask for one more, and multiply it by 1e-10
    # Ours begins at sigma times the noise, which a network sees as sigma / sqrt(1 + sigma^2) times it; theirs at the
    # noise itself.
    noises[0] = noises[0] * float(sigmas[0] / (1 + sigmas[0].square()).sqrt())
    theirs = pipeline_images(
        write_diffusers(tmp_path / "out", prior, source=tmp_path), monkeypatch, noises, steps=steps
    )
    assert ours.std() > 0.1 and (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("world", WORLDS)
def test_round_trip_is_bit_exact(world, tmp_path):
    options = {k: v for k, v in WORLDS[world].items() if k != "steps"}
    prior = prior_of(**options)
    back = load_prior(write_diffusers(tmp_path / "out", prior, source=tmp_path))
    for (name, ours), theirs in zip(
        prior.denoiser.network.state_dict().items(), back.denoiser.network.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    a, b = prior.denoiser, back.denoiser
    torch.testing.assert_close(a.schedule.betas, b.schedule.betas, rtol=1e-12, atol=0)
    assert (a.prediction, a.variance, a.data_shape) == (b.prediction, b.variance, b.data_shape)
    x, sigma = torch.randn(2, *a.data_shape), torch.tensor([0.3, 7.0])
    with torch.no_grad():
        torch.testing.assert_close(a.predict(x, sigma).x0, b.predict(x, sigma).x0, rtol=0, atol=0)


def test_the_network_of_ho_as_released():
    """Our defaults are google/ddpm-cifar10-32, key by key (reference sheet 1.9)."""
    released = {
        "_class_name": "UNet2DModel",
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
    config = unet_to_diffusers(UNet(in_channels=3), size=(32, 32))
    assert {key: config[key] for key in released} == released
    assert unet_from_diffusers(config)["attention"] == [1]


def test_half_precision_is_written_and_read(tmp_path):
    prior = prior_of()
    back = load_prior(write_diffusers(tmp_path / "out", prior, source=tmp_path, dtype=torch.float16))
    for p, q in zip(prior.denoiser.network.parameters(), back.denoiser.network.parameters(), strict=True):
        assert q.dtype == torch.float32
        torch.testing.assert_close(p, q, rtol=2**-11, atol=1e-7)
    with torch.no_grad():
        next(iter(prior.denoiser.network.parameters()))[0] = 1e6
    with pytest.raises(UserError, match=r"not finite as float16: export it with --dtype float32"):
        write_diffusers(tmp_path / "b", prior, source=tmp_path, dtype=torch.float16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch": 2}, "patch=2"),
        ({"num_classes": 3}, "num_classes=3"),
        ({"resample": "projected"}, "resample=projected"),
        ({"up_attention": "last"}, "up_attention=last"),
        ({"up_attention": "last", "attention": [], "up_attention_levels": [0]}, "up_attention=last"),
        ({"heads": 2, "up_attention_levels": [0], "middle": False}, "heads=2"),
        ({"multipliers": [1, 1.25]}, "does not divide the widths [8, 10]"),
        ({"skip_scale": 0.5}, "skip_scale=0.5"),
        ({"time_channels": 16}, "time_channels=16"),
        ({"time_scale": 0.25}, "time_scale=0.25"),
        ({"groups": 3}, "groups=3"),
        ({"shape": (1, 9, 8)}, "pads pictures of 8x9 pixels to multiples of 2"),
        ({"heads": 2, "attention": [0, 1]}, "heads=2"),
        ({"prediction": "edm", "schedule": LogNormal()}, "prediction 'edm'"),
        ({"prediction": "velocity", "schedule": UniformTimes()}, "prediction 'velocity'"),
    ],
)
def test_what_diffusers_cannot_compute_is_refused_by_name_and_nothing_is_written(options, words, tmp_path):
    with pytest.raises(UserError) as error:
        write_diffusers(tmp_path / "out", prior_of(**options), source=tmp_path)
    assert words in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_folder_that_is_in_use_is_refused(tmp_path):
    prior = prior_of()
    (tmp_path / "empty").mkdir()
    write_diffusers(tmp_path / "empty", prior, source=tmp_path)
    before = sorted(p.name for p in (tmp_path / "empty").iterdir())
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        write_diffusers(tmp_path / "empty", prior, source=tmp_path)
    assert (
        before
        == ["README.md", "model_index.json", "scheduler", "unet"]
        == sorted(p.name for p in (tmp_path / "empty").iterdir())
    )


# --- the command and the card


DATA = {
    "data_dir": "/home/me",
    "batch_size": 64,
    "folder": "C:\\home\\me\\pictures",
    "more": ["~/home/me/x", "./relative/y"],
}


@pytest.fixture
def run(tmp_path):
    """A run folder as train.py leaves it."""
    prior = prior_of(
        training={"images": 12800, "steps": 100, "weighting": "simple", "from": {"path": "/home/me/base.ckpt"}}
    )
    weights = prior.denoiser.network.state_dict()
    content = {
        "prior": prior.description,
        "state_dict": {"denoiser.network." + k: v for k, v in weights.items()},
        "ema": {"weights": {k: v + 1 for k, v in weights.items()}, "updates": 1},
    }
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.csv").write_text(
        "step,train/loss,val/loss,val/fid\n49,0.5,0.4,\n99,0.3,0.2,31.5\n149,0.1,0.0625,\n"
    )
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"model": {"lr": 0.001, "prior": "/home/me/base.ckpt"}, "data": {"init_args": DATA}, "wandb": 1})
    )
    return folder


def test_the_command_writes_folder_and_card(run, tmp_path):
    (tmp_path / "table.csv").write_text("task,method,metric,mean\nholes,dps,psnr,31.25\n")
    checkpoint = run / "checkpoints" / "last.ckpt"
    result = call(
        "-m",
        "checkpoints.export",
        checkpoint,
        tmp_path / "out",
        "--format",
        "diffusers",
        "--metrics",
        tmp_path / "table.csv",
    )
    assert result.returncode == 0, result.stderr
    ema, raw = load_prior(checkpoint), load_prior(checkpoint, weights="raw")
    back = load_prior(tmp_path / "out").denoiser.network.state_dict()
    assert all(torch.equal(v, back[k]) for k, v in ema.denoiser.network.state_dict().items())
    assert not torch.equal(back["head.bias"], raw.denoiser.network.state_dict()["head.bias"])
    card = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "diffusers"
    for said in (
        "Digits",
        "12,800",
        "exponential average",
        "0.2 (step 99)",
        "31.5 (step 99)",
        "| holes | dps | psnr | 31.25 |",
        "batch_size: 64",
        "last.ckpt",
    ):
        assert said in card, said
    assert "prior: base.ckpt" in card and "folder: pictures" in card and "./relative/y" in card
    for secret in ("home/me", "home\\me", "wandb", "0.0625"):  # nor what was measured after this checkpoint
        assert secret not in card, secret
    assert json.loads((tmp_path / "out" / "unet" / "config.json").read_text())["sample_size"] == 8


def test_the_command_refuses(run, tmp_path):
    checkpoint = run / "checkpoints" / "last.ckpt"
    one_sentence(
        call("-m", "checkpoints.export", checkpoint, tmp_path / "out"), "must end in .safetensors", "--format diffusers"
    )
    shipped = ROOT / "assets" / "ddpm_mnist.safetensors"
    one_sentence(
        call("-m", "checkpoints.export", shipped, tmp_path / "out", "--format", "diffusers"),
        "patch=2",
        "export it as .safetensors",
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_diffusers_becomes_one_of_our_files(tmp_path):
    denoiser = tiny_denoiser()
    prior = LoadedPrior(denoiser, describe_prior(denoiser, data="Digits"), "")
    folder = write_diffusers(tmp_path / "out", prior, source=tmp_path)
    again = load_prior(folder)
    write_safetensors(tmp_path / "a.safetensors", again.denoiser.network, again.description, dtype=torch.float32)
    ours = load_prior(tmp_path / "a.safetensors").denoiser
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(
        ours.predict(x, torch.tensor([1.0])).x0, denoiser.predict(x, torch.tensor([1.0])).x0, rtol=0, atol=0
    )
