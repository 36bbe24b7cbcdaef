"""Folders of diffusers as priors: parity with UNet2DModel and DDPMScheduler under random weights, layouts, refusals."""

import copy
import inspect
import json
import shutil
import sys
import types

import pytest
import safetensors.torch
import torch

from checkpoints.foreign.diffusers_scheduler import CLASSES, schedule_from_diffusers
from checkpoints.foreign.import_diffusers import is_hub_name
from checkpoints.load import describes_cold_restorer, load_prior
from common.errors import UserError
from diffusion.schedules import Cosine, Linear, ScaledLinear, SigmoidBeta, Tabulated, ZeroTerminalSNR

UNET = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [8, 16],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 16,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("diffusers")
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(**{k: v for k, v in UNET.items() if not k.startswith("_")}).eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))
    return network


def folder_of(theirs, path, *, flat=False, binary=False, unet=UNET, scheduler=SCHEDULER, weights=None):
    """The folder in the layout of today, or flat as the first releases."""
    places = {"unet": path if flat else path / "unet", "scheduler": path if flat else path / "scheduler"}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    (places["unet"] / "config.json").write_text(json.dumps(unet))
    (places["scheduler"] / "scheduler_config.json").write_text(json.dumps(scheduler))
    (path / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "DDPMPipeline",
                "scheduler": ["diffusers", "DDPMScheduler"],
                "unet": ["diffusers", "UNet2DModel"],
            }
        )
    )
    weights = theirs.state_dict() if weights is None else weights
    if binary:
        torch.save(weights, places["unet"] / "diffusion_pytorch_model.bin")
    else:
        safetensors.torch.save_file(
            {k: v.contiguous() for k, v in weights.items()}, places["unet"] / "diffusion_pytorch_model.safetensors"
        )
    return path


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_the_network_and_the_schedule(theirs, flat, binary, tmp_path):
    """eps and x0 of the denoiser are what network and scheduler say together."""
    from diffusers import DDPMScheduler

    denoiser = load_prior(folder_of(theirs, tmp_path / "ddpm", flat=flat, binary=binary)).denoiser
    assert denoiser.data_shape == (3, 16, 16) and denoiser.prediction == "epsilon" and not denoiser.learns_variance
    scheduler = DDPMScheduler(**{k: v for k, v in SCHEDULER.items() if not k.startswith("_")})
    torch.testing.assert_close(denoiser.schedule.alphas_bar.float(), scheduler.alphas_cumprod, rtol=2e-5, atol=0)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for t in (0, 1, 500, 999):
        with torch.no_grad():
            eps = theirs(x, torch.tensor([t])).sample
            sigma = denoiser.schedule.sigma_of(torch.tensor([t])).float()
            found = denoiser.predict(x * (1 + sigma.square()).sqrt().view(-1, 1, 1, 1), sigma)
        assert eps.std() > 0.05 and (found.eps - eps).abs().max() < 1e-5
        expected = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(0)).pred_original_sample
        assert (found.x0.clamp(-1, 1) - expected).abs().max() < 1e-3 * max(1.0, float(sigma) / 50)


def test_what_diffusers_saves_itself(theirs, tmp_path):
    """The folder of save_pretrained, the folder unet/ in it and the file of its weights are the same prior."""
    from diffusers import DDPMPipeline, DDPMScheduler

    DDPMPipeline(
        unet=theirs, scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    ).save_pretrained(tmp_path / "own")
    paths = [
        tmp_path / "own",
        tmp_path / "own" / "unet",
        tmp_path / "own" / "unet" / "diffusion_pytorch_model.safetensors",
    ]
    priors = [load_prior(path) for path in paths]
    assert priors[0].denoiser.prediction == "v" and isinstance(priors[0].denoiser.schedule, Cosine)
    assert len({p.fingerprint for p in priors}) == 1 and not describes_cold_restorer(paths[0])
    for ours in priors:
        x = torch.randn(1, 3, 16, 16)
        with torch.no_grad():
            assert (ours.denoiser.network(x, torch.tensor([30.0])) - theirs(x, 30).sample).abs().max() < 1e-5


def test_the_fingerprint_is_of_all_that_was_read(theirs, tmp_path):
    first = load_prior(folder_of(theirs, tmp_path / "a")).fingerprint
    assert load_prior(folder_of(theirs, tmp_path / "b")).fingerprint == first
    other = load_prior(folder_of(theirs, tmp_path / "c", scheduler=SCHEDULER | {"beta_end": 0.01})).fingerprint
    moved = {k: v + 1 if k == "conv_out.bias" else v for k, v in theirs.state_dict().items()}
    assert len({first, other, load_prior(folder_of(theirs, tmp_path / "d", weights=moved)).fingerprint}) == 3


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, Linear),
        ({"num_train_timesteps": 400, "beta_start": 1e-3, "beta_end": 0.04}, Linear),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, ScaledLinear),
        ({"beta_schedule": "squaredcos_cap_v2"}, Cosine),
        ({"beta_schedule": "sigmoid"}, SigmoidBeta),
        ({"trained_betas": [0.01, 0.02, 0.3], "num_train_timesteps": 3}, Tabulated),
        ({"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True}, ZeroTerminalSNR),
    ],
)
def test_every_schedule_is_that_of_diffusers(config, kind):
    pytest.importorskip("diffusers")
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(**config)
    ours = schedule_from_diffusers(dict(theirs.config), "it").schedule
    assert isinstance(ours, kind)
    # Their tables are float32, and for the cosine a product of factors that lost digits.
    torch.testing.assert_close(ours.alphas_bar.float(), theirs.alphas_cumprod, rtol=2e-3, atol=2e-7)


# diffusers takes tables of torch into numpy in an old way, one warning for each number
OLD_NUMPY = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@OLD_NUMPY
@pytest.mark.parametrize("name", CLASSES)
def test_other_schedulers_share_the_schedule(name):
    """Their whole configurations, as they are today, are understood."""
    diffusers = pytest.importorskip("diffusers")
    theirs = getattr(diffusers, name)(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    found = schedule_from_diffusers(dict(theirs.config) | {"_class_name": name}, "it")
    assert isinstance(found.schedule, Cosine) and found.prediction == "v" and found.variance == "fixed"


@OLD_NUMPY
@pytest.mark.parametrize("name", CLASSES)
def test_what_a_scheduler_s_file_leaves_out_is_the_default_of_its_class(name):
    """Heun, KDPM2, LCM and TCD have others than DDPM; the table is the one that the class computes."""
    diffusers = pytest.importorskip("diffusers")
    theirs = getattr(diffusers, name)()
    for config in ({"_class_name": name}, {**theirs.config, "_class_name": name}):
        ours = schedule_from_diffusers(config, "it").schedule
        torch.testing.assert_close(ours.alphas_bar.float(), theirs.alphas_cumprod, rtol=2e-5, atol=0)


@OLD_NUMPY
@pytest.mark.parametrize("name", CLASSES)
def test_zero_terminal_snr_is_that_of_the_class_or_refused(name):
    """Made from DDPM's config, a file of another class keeps the key; some classes have no use for it."""
    diffusers = pytest.importorskip("diffusers")
    options = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    theirs = getattr(diffusers, name).from_config(diffusers.DDPMScheduler(**options).config)
    config = dict(theirs.config) | {"_class_name": name}
    assert config["rescale_betas_zero_snr"]
    if float(theirs.alphas_cumprod[-1]) > 2**-20:  # some put 2^-24 for the 0
        with pytest.raises(UserError, match=f"rescale_betas_zero_snr=True, which a {name} passes over: write"):
            schedule_from_diffusers(config, "it")
        config["rescale_betas_zero_snr"] = False
    ours = schedule_from_diffusers(config, "it").schedule
    torch.testing.assert_close(ours.alphas_bar.float(), theirs.alphas_cumprod, rtol=2e-5, atol=1e-7)


STEPPING = [
    n for n in CLASSES if n.startswith(("Euler", "Heun", "LMS", "KDPM2", "LCM")) or n.endswith("ParallelScheduler")
]


@OLD_NUMPY
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", STEPPING)
def test_the_step_of_a_scheduler_sees_our_x0(name, prediction, theirs, tmp_path):
    """The folder with the scheduler's own file: the network's output, and the clean image that its step computes."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(prediction_type=prediction)
    folder = folder_of(theirs, tmp_path / "a")
    scheduler.save_pretrained(folder / "scheduler")
    denoiser = load_prior(folder).denoiser
    scheduler.set_timesteps(50 if name == "LCMScheduler" else 1000)
    t = scheduler.timesteps[len(scheduler.timesteps) // 4 * 2 + 2]  # where a pair of evaluations begins
    sigma = denoiser.schedule.sigma_of(t[None]).float()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * sigma
    given = x if hasattr(scheduler, "sigmas") else x / (1 + sigma.square()).sqrt()
    with torch.no_grad():
        output = theirs(scheduler.scale_model_input(given, t), t).sample
        found = denoiser.predict(x, sigma)
    random = {"generator": torch.Generator()} if "generator" in inspect.signature(scheduler.step).parameters else {}
    step = scheduler.step(output, t, given, **random)
    x0 = step.denoised if name == "LCMScheduler" else step.pred_original_sample
    ours = found.x0.clamp(-1, 1) if scheduler.config.get("clip_sample") else found.x0
    assert 0.2 < float(sigma) < 10 and x0.std() > 0.05
    assert (ours - x0).abs().max() < 1e-5 * max(1.0, float(sigma))


def test_original_sample_is_euler_s_word_for_x0():
    assert (
        schedule_from_diffusers(
            {"_class_name": "EulerDiscreteScheduler", "prediction_type": "original_sample"}, "it"
        ).prediction
        == "x0"
    )
    with pytest.raises(UserError, match="prediction_type='original_sample'"):
        schedule_from_diffusers({"prediction_type": "original_sample"}, "it")


def test_predict_epsilon_of_old_files():
    assert schedule_from_diffusers({"predict_epsilon": False}, "it").prediction == "x0"
    assert schedule_from_diffusers({"predict_epsilon": True}, "it").prediction == "epsilon"


# --- refusals


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("scheduler", {"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
        ("scheduler", {"beta_schedule": "laplace"}, "beta_schedule='laplace'"),
        ("scheduler", {"prediction_type": "flow_prediction"}, "flow_prediction"),
        ("scheduler", {"variance_type": "learned"}, "variance_type='learned'"),
        ("scheduler", {"beta_strt": 1}, "beta_strt=1: this key is not known (did you mean 'beta_start'?)"),
        ("scheduler", {"use_flow_sigmas": True}, "use_flow_sigmas=True: only False or None can be converted"),
        ("scheduler", {"_class_name": ["a"]}, "is of the class ['a']"),
        (
            "scheduler",
            {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
            "timestep_type='continuous': only 'discrete' can be converted",
        ),
        ("scheduler", {"_class_name": "HeunDiscreteScheduler", "beta_schedule": "exp"}, "beta_schedule='exp'"),
        ("scheduler", {"_class_name": "PNDMScheduler", "rescale_betas_zero_snr": True}, "which a PNDMScheduler"),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ("scheduler", {"rescale_betas_zero_snr": True}, "pure noise"),
        ("scheduler", {"trained_betas": [0.1]}, "trained_betas has 1 numbers"),
        ("scheduler", {"variance_type": "learned_range"}, "6 output channels"),
        ("unet", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ("unet", {"time_embedding_type": "fourier"}, "time_embedding_type"),
        ("unet", {"num_class_embeds": 10}, "num_class_embeds"),
        ("unet", {"sample_size": None}, "sample_size=None"),
        ("unet", {"new_key": 1}, "new_key"),
        ("unet", {"out_channels": 6}, "learned_range"),
        ("unet", {"layers_per_block": 2}, "missing: down_blocks.0.resnets.1"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(part, change, words, theirs, tmp_path):
    folder = folder_of(theirs, tmp_path / "a", **{part: (UNET if part == "unet" else SCHEDULER) | change})
    with pytest.raises(UserError) as error:
        load_prior(folder)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_and_unexpected_weights_are_named(theirs, tmp_path):
    state = theirs.state_dict()
    with pytest.raises(UserError, match=r"missing: mid_block\.attentions\.0\.to_k\.weight$"):
        load_prior(
            folder_of(
                theirs,
                tmp_path / "a",
                weights={k: v for k, v in state.items() if k != "mid_block.attentions.0.to_k.weight"},
            )
        )
    with pytest.raises(UserError, match=r"unexpected: class_embedding\.weight$"):
        load_prior(folder_of(theirs, tmp_path / "b", weights=state | {"class_embedding.weight": torch.zeros(3)}))


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_would_run_code_is_refused_and_nothing_runs(theirs, tmp_path, capsys):
    folder = folder_of(theirs, tmp_path / "a", binary=True, weights=dict(theirs.state_dict()) | {"extra": Evil()})
    with pytest.raises(UserError, match="nothing of it was run"):
        load_prior(folder)
    assert "code ran" not in capsys.readouterr().out


def test_folders_that_are_none(theirs, tmp_path):
    with pytest.raises(UserError, match=r"it is a folder, and not one of diffusers"):
        load_prior(tmp_path)
    folder = folder_of(theirs, tmp_path / "a")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(UserError, match="does not say its noise schedule: there is no"):
        load_prior(folder)
    folder = folder_of(theirs, tmp_path / "b")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    with pytest.raises(UserError, match=r"has no weights: .*there are diffusion_pytorch_model\.non_ema"):
        load_prior(folder)
    folder = folder_of(theirs, tmp_path / "c")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        load_prior(folder)
    folder = folder_of(theirs, tmp_path / "d")
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_prior(folder)
    folder = folder_of(theirs, tmp_path / "e")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "LDMPipeline", "unet": [], "scheduler": [], "vqvae": ["diffusers", "VQModel"]})
    )
    for path in (folder, folder / "unet", folder / "unet" / "diffusion_pytorch_model.safetensors"):
        with pytest.raises(UserError, match="has a part 'vqvae'"):
            load_prior(path)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"give .*checkpoints/last"):
        load_prior(run)


# --- files of weights

SAVED = {
    "shards": {"max_shard_size": 20_000},
    "binary shards": {"max_shard_size": 20_000, "safe_serialization": False},
    "half": {"variant": "fp16"},
    "binary half": {"variant": "fp16", "safe_serialization": False},
    "shards of half": {"variant": "fp16", "max_shard_size": 20_000},
    "binary shards of half": {"variant": "fp16", "max_shard_size": 20_000, "safe_serialization": False},
}


def saved(theirs, path, how):
    """The folder as save_pretrained writes the network."""
    folder = folder_of(theirs, path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    network = copy.deepcopy(theirs).half() if "half" in how else theirs
    network.save_pretrained(folder / "unet", **SAVED[how])
    return folder


@pytest.mark.parametrize("how", SAVED)
def test_weights_in_several_files_and_in_half_precision(how, theirs, tmp_path):
    """What diffusers saves and reads; each file counts in the fingerprint; the index is the same as its folder."""
    folder = saved(theirs, tmp_path / "a", how)
    files = sorted((folder / "unet").glob("*model*"))
    assert len(files) == 1 if "shards" not in how else len(files) > 3
    options = {"variant": "fp16"} if "half" in how else {}
    again = (
        type(theirs)
        .from_pretrained(folder / "unet", use_safetensors="binary" not in how, low_cpu_mem_usage=False, **options)
        .eval()
    )
    prior = load_prior(folder)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = again(x, 30).sample
        assert expected.dtype == torch.float32
        assert (prior.denoiser.network(x, torch.tensor([30.0])) - expected).abs().max() < 1e-5
        assert ((theirs(x, 30).sample - expected).abs().max() > 1e-5) == ("half" in how)
    first = next(f for f in files if "shards" not in how or f.suffix == ".json")
    assert load_prior(first).fingerprint == prior.fingerprint
    part = next(f for f in files if f.suffix != ".json")
    if "shards" in how:
        with pytest.raises(UserError, match=r"is one of several files of weights: give the folder '.*unet'"):
            load_prior(part)
    if part.suffix == ".safetensors":
        tensors = safetensors.torch.load_file(part)
        safetensors.torch.save_file({k: v + 1 for k, v in tensors.items()}, part)
        assert load_prior(folder).fingerprint != prior.fingerprint
    elif "shards" in how:
        torch.save({"evil": Evil()}, part)
        with pytest.raises(UserError, match="nothing of it was run"):
            load_prior(folder)


def test_of_several_the_index_is_taken_and_full_precision(theirs, tmp_path):
    """As diffusers does; a file that is given by name is taken itself."""
    zeros = {k: torch.zeros_like(v) for k, v in theirs.state_dict().items()}
    folder = saved(theirs, tmp_path / "a", "shards")
    safetensors.torch.save_file(zeros, folder / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save(zeros, folder / "unet" / "diffusion_pytorch_model.bin")
    safetensors.torch.save_file(zeros, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert type(theirs).from_pretrained(folder / "unet").conv_in.weight.any()
    assert load_prior(folder).denoiser.network.stem.weight.any()
    for name in ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"):
        assert not load_prior(folder / "unet" / name).denoiser.network.stem.weight.any()
    folder = folder_of(theirs, tmp_path / "b")
    torch.save(zeros, folder / "unet" / "diffusion_pytorch_model.fp16.bin")
    safetensors.torch.save_file(zeros, folder / "unet" / "model.safetensors")
    assert load_prior(folder).denoiser.network.stem.weight.any()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert not load_prior(folder).denoiser.network.stem.weight.any()
    (folder / "unet" / "diffusion_pytorch_model.fp16.bin").unlink()
    assert not load_prior(folder).denoiser.network.stem.weight.any()  # as another saver calls it
    (folder / "unet" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        load_prior(folder)


def test_the_index_of_a_variant_under_its_name_of_before(theirs, tmp_path):
    folder = saved(theirs, tmp_path / "a", "shards of half")
    expected = load_prior(folder).denoiser.network.stem.weight
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    index.rename(index.with_name("diffusion_pytorch_model.safetensors.fp16.index.json"))
    assert torch.equal(load_prior(folder).denoiser.network.stem.weight, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update({"conv_in.weight": "../unet/x.safetensors"}), "names the file '../unet/x.safetensors'"),
        (lambda m: m.update({"conv_in.weight": "/etc/x.safetensors"}), "only names of .safetensors files in its own"),
        (lambda m: m.update({"conv_in.weight": "..\\x.safetensors"}), "only names of .safetensors files"),
        (lambda m: m.update({"conv_in.weight": "x.bin"}), "names the file 'x.bin'"),
        (lambda m: m.update({"conv_in.weight": 3}), "names the file 3"),
        (lambda m: m.update({"conv_in.weight": "x.safetensors"}), "names 'x.safetensors', which is not beside it"),
        (lambda m: m.pop("conv_in.weight"), "it also has 'conv_in.weight'"),
        (lambda m: m.update({"more": m["conv_in.weight"]}), "it lacks 'more'"),
        (lambda m: m.clear(), "it has no weight_map"),
    ],
)
def test_an_index_that_leads_elsewhere_or_says_what_is_not(change, words, theirs, tmp_path):
    folder = saved(theirs, tmp_path / "a", "shards")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        load_prior(folder)
    assert words in str(error.value) and "\n" not in str(error.value)


# --- the hub


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/ddpm-cifar10-32", True),
        ("runs/none", False),
        ("google/a.ckpt", False),
        ("a", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("../a", False),
    ],
)
def test_names_of_the_hub(name, expected, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) == expected


class Hub:
    """A repository that is copied file by file, as far as it is asked for."""

    def __init__(self, remote, cache):
        self.remote, self.cache, self.fetched = remote, cache, []

    def snapshot_download(self, name, *, allow_patterns):
        assert name == "google/ddpm-cifar10-32" and "*" not in "".join(allow_patterns)
        for pattern in allow_patterns:
            if (self.remote / pattern).is_file():
                (self.cache / pattern).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.remote / pattern, self.cache / pattern)
                self.fetched.append(pattern)
        return str(self.cache)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kind", ["whole", "binary", "shards", "half", "shards of half"])
def test_a_repository_is_fetched_where_there_is_a_network(kind, flat, theirs, tmp_path, monkeypatch):
    """Configurations first, then one set of weights, and nothing twice."""
    folder = folder_of(theirs, tmp_path / "remote", flat=flat, binary=kind == "binary")
    unet = folder if flat else folder / "unet"
    if "s" in kind[0] or kind == "half":
        (unet / "diffusion_pytorch_model.safetensors").unlink()
        variant = {"variant": "fp16"} if "half" in kind else {}
        theirs.save_pretrained(unet, max_shard_size=20_000 if "shards" in kind else "1GB", **variant)
    elif kind == "whole":  # which is taken before it
        torch.save(theirs.state_dict(), unet / "diffusion_pytorch_model.bin")
        torch.save(theirs.state_dict(), unet / "diffusion_pytorch_model.fp16.bin")
    hub = Hub(folder, tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert load_prior("google/ddpm-cifar10-32").fingerprint == load_prior(folder).fingerprint
    assert len(hub.fetched) == len(set(hub.fetched))
    expected = {f.name for f in folder.rglob("*") if f.is_file()}
    if kind == "whole":
        expected -= {"diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"}
    assert {name.rpartition("/")[2] for name in hub.fetched} == expected


def test_without_network_or_library_the_message_says_where_the_files_go(monkeypatch):
    def offline(name, **options):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=offline))
    with pytest.raises(
        UserError, match=r"cannot be fetched from the hub \(ConnectionError\): put its config\.json.*into a folder"
    ):
        load_prior("google/ddpm-cifar10-32")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="huggingface_hub is needed: install it, or put its"):
        load_prior("google/ddpm-cifar10-32")
