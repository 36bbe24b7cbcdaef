"""Fine-tuning: what is trained and what stays, what checkpoints hold, that a resumed run is the uninterrupted one."""

import json

import pytest
import safetensors
import torch
from helpers import tiny_digits, tiny_trainer, write_tiny_prior

from callbacks.ema import EMA
from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from checkpoints.load import load_cold_restorer, load_prior
from checkpoints.lora.files import WEIGHTS, read_adapter
from checkpoints.lora.merging import merged, weights_hash
from checkpoints.prior import describe_prior
from common.errors import UserError
from degradations.severity.pixelation import Pixelation
from diffusion.assemble import assemble
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Condition
from diffusion.edm import LogNormal
from diffusion.flow import UniformTimes
from diffusion.image_conditioning import ConditioningOptions
from diffusion.schedules import Cosine
from diffusion.weighting.edm import EDM
from diffusion.weighting.target import Target
from lightning_modules.fine_tuning import FineTuning
from lightning_modules.lora_fine_tuning import LoRAFineTuning
from networks.unet import UNet

FAST = {"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"sampling_steps": 2}}


def module(kind, prior, **options):
    torch.manual_seed(0)
    return kind(prior=str(prior), **{"training": FAST, "warmup_steps": 1, "learning_rate": 1e-2, **options})


@pytest.fixture
def prior(tmp_path):
    return write_tiny_prior(tmp_path / "prior.safetensors")


def read_raw(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def test_before_training_it_is_the_prior_bit_for_bit(prior):
    x, sigma = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.05, 1.0, 20.0])
    expected = load_prior(prior).denoiser.predict(x, sigma)
    for options in (
        {},
        {"rslora": True, "rank": 3},
        {"dropout": 0.5},
        {"targets": ["conv1", "head", "stem", "shift", "linear1"]},
    ):
        model = module(LoRAFineTuning, prior, **options)
        assert torch.equal(model.eval().inner.denoiser.predict(x, sigma).x0, expected.x0)
    assert torch.equal(module(FineTuning, prior).eval().inner.denoiser.predict(x, sigma).x0, expected.x0)


def test_the_prior_is_trained_beside_and_stays_as_it_is(prior, tmp_path):
    model = module(LoRAFineTuning, prior, rank=2, alpha=4.0)
    assert all(m.training for m in model.modules())
    before = weights_hash(model.base_weights())
    assert before == weights_hash(load_prior(prior).denoiser.network.state_dict()) == model.base_hash
    trainer = tiny_trainer(tmp_path / "run", EMA(), max_steps=4)
    trainer.fit(model, datamodule=tiny_digits())
    assert weights_hash(model.base_weights()) == before
    trained = [n for n, p in model.network.named_parameters() if p.requires_grad]
    assert trained and all(".lora_" in n for n in trained)
    count = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    assert sum(p.numel() for g in trainer.optimizers[0].param_groups for p in g["params"]) == count
    assert all(float(p.detach().abs().max()) > 0 for n, p in model.network.named_parameters() if "lora_B" in n)
    # The file: four bytes a trained number, and a header.
    size = (tmp_path / "run/adapter" / WEIGHTS).stat().st_size
    assert 4 * count < size < 4 * count + 200 * len(trained) + 300
    # The checkpoint: adapters only, with what resuming needs; everywhere a prior is read it is the prior with the
    # adapter.
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    content = read_raw(path)
    assert content["state_dict"] and all(
        ".lora_" in n for part in (content["state_dict"], content["ema"]["weights"]) for n in part
    )
    x, sigma = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 2.0])
    raw = load_prior(path, weights="raw").denoiser
    torch.testing.assert_close(
        raw.predict(x, sigma).x0, model.eval().inner.denoiser.predict(x, sigma).x0, atol=1e-5, rtol=0
    )
    with model.average.swapped():
        averaged = model.inner.denoiser.predict(x, sigma).x0
    torch.testing.assert_close(load_prior(path).denoiser.predict(x, sigma).x0, averaged, atol=1e-5, rtol=0)
    written = merged(
        load_prior(prior).denoiser.network.state_dict(), [(read_adapter(tmp_path / "run/adapter"), 1.0)], where="it"
    )
    assert weights_hash(written) == weights_hash(load_prior(path).denoiser.network.state_dict())
    described = load_prior(path).description
    assert (
        described["data"]["name"] == "Digits"
        and described["training"]["from"]["hash"] == before
        and described["training"]["steps"] == 4
    )


@pytest.mark.parametrize("kind", [LoRAFineTuning, FineTuning])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(kind, prior, tmp_path):
    def run(folder, steps, resume=None):
        model = module(kind, prior, **({"dropout": 0.2} if kind is LoRAFineTuning else {}))
        trainer = tiny_trainer(tmp_path / folder, EMA(half_life_images=50), max_steps=steps)
        trainer.fit(model, datamodule=tiny_digits(), ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / f"{folder}.ckpt")
        return read_raw(tmp_path / f"{folder}.ckpt")

    whole = run("whole", 6)
    run("half", 3)  # in the middle of an epoch of four steps
    torch.manual_seed(99)
    resumed = run("rest", 6, tmp_path / "half.ckpt")
    for part in (lambda c: c["state_dict"], lambda c: c["ema"]["weights"]):
        assert part(whole).keys() == part(resumed).keys()
        assert all(torch.equal(value, part(resumed)[name]) for name, value in part(whole).items())


def test_full_fine_tuning_is_a_checkpoint_like_any_other(prior, tmp_path):
    model = module(FineTuning, prior)
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=2)
    trainer.fit(model, datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "full.ckpt")
    prior.unlink()  # not needed any more
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 2.0])
    raw = load_prior(tmp_path / "full.ckpt", weights="raw").denoiser.predict(x, sigma).x0
    assert torch.equal(raw, model.eval().inner.denoiser.predict(x, sigma).x0)
    assert (
        weights_hash(load_prior(tmp_path / "full.ckpt", weights="raw").denoiser.network.state_dict()) != model.base_hash
    )


def test_a_cold_restorer_is_adapted_too(tmp_path):
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    with torch.no_grad():
        network.head.weight.normal_(std=0.1)
    restorer = ColdRestorer(network=network, family=Pixelation(data="mnist"), data_shape=(1, 8, 8))
    write_safetensors(
        tmp_path / "cold.safetensors", network, describe_cold_restorer(restorer, data="Digits"), dtype=torch.float32
    )
    model = module(LoRAFineTuning, tmp_path / "cold.safetensors", training=None, rank=2)
    trainer = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=3)
    trainer.fit(model, datamodule=tiny_digits())
    assert "val/loss" in trainer.callback_metrics
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    x = torch.randn(2, 1, 8, 8)
    adapted = load_cold_restorer(tmp_path / "a.ckpt", weights="raw").restorer
    torch.testing.assert_close(adapted.predict(x, 3), model.eval().inner.restorer.predict(x, 3), atol=1e-5, rtol=0)
    assert not torch.allclose(
        adapted.predict(x, 3), load_cold_restorer(tmp_path / "cold.safetensors").restorer.predict(x, 3), atol=1e-3
    )
    images, columns = model.samples(8, 8)
    assert images.shape == (8, 1, 8, 8) and columns == 2


def for_operator(**options):
    degradation = {"class_path": "degradations.random_mask.RandomMask", "init_args": {"removed": 0.5}}
    noise = {"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma": 0.1}}
    init = {"degradation": degradation, "noise": noise, "sampling_steps": 2, **options}
    return {"class_path": "lightning_modules.ddpm_for_operator.DDPMForOperator", "init_args": init}


@pytest.mark.parametrize("kind", [LoRAFineTuning, FineTuning])
def test_for_an_operator_the_network_is_shown_the_measurement(kind, prior, tmp_path):
    options = {"targets": ["stem", "conv1", "conv2"]} if kind is LoRAFineTuning else {}
    model = module(kind, prior, training=for_operator(), **options)
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 2.0])
    one, other = (Condition(image=torch.randn(2, 1, 8, 8)) for _ in range(2))
    denoiser = model.eval().inner.denoiser
    torch.testing.assert_close(
        denoiser.predict(x, sigma, one).x0, load_prior(prior).denoiser.predict(x, sigma).x0, atol=1e-6, rtol=0
    )
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=4)
    trainer.fit(model.train(), datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    found = load_prior(tmp_path / "a.ckpt", weights="raw").denoiser
    assert found.takes_image and found.network.in_channels == 2
    torch.testing.assert_close(
        found.predict(x, sigma, one).x0, model.eval().inner.denoiser.predict(x, sigma, one).x0, atol=1e-5, rtol=0
    )
    assert not torch.allclose(found.predict(x, sigma, one).x0, found.predict(x, sigma, other).x0, atol=1e-4)
    images, columns = model.samples(8, 4)
    assert images.shape == (8, 1, 8, 8) and columns == 2 and torch.isfinite(images).all()
    assert model.generate([0, 1, 2]).shape == (3, 1, 8, 8)


def test_a_prior_with_a_guide_is_trained_on_with_one(tmp_path):
    torch.manual_seed(0)
    network = UNet(in_channels=2, out_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    for name, sees in (("conditional", True), ("shifted", False)):
        conditioning = ConditioningOptions(form=name, sees_image=sees)
        seen = (
            network if sees else UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
        )
        denoiser = assemble(
            network=seen, schedule=Cosine(), prediction="v", data_shape=(1, 8, 8), conditioning=conditioning
        )
        write_safetensors(
            tmp_path / f"{name}.safetensors", seen, describe_prior(denoiser, data="Digits"), dtype=torch.float32
        )
        with pytest.raises(UserError, match=r"is given a second image, and model\.training DDPM gives none"):
            module(LoRAFineTuning, tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="has another: set its form"):
        module(LoRAFineTuning, tmp_path / "shifted.safetensors", training=for_operator())
    model = module(LoRAFineTuning, tmp_path / "conditional.safetensors", training=for_operator())
    assert model.images_side_by_side == 1 and model.network.in_channels == 2  # not widened once more


@pytest.mark.parametrize(
    ("prediction", "schedule", "weighting"),
    [("edm", LogNormal(p_mean=-1.0), EDM(sigma_data=0.6)), ("velocity", UniformTimes(t_max=0.99), Target())],
    ids=["edm", "velocity"],
)
def test_a_prior_in_continuous_time_is_trained_on_as_it_was(prediction, schedule, weighting, tmp_path):
    """With its own times, and the weighting that its file names."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    denoiser = assemble(network=network, schedule=schedule, prediction=prediction, data_shape=(1, 8, 8), sigma_data=0.6)
    description = describe_prior(denoiser, data="Digits", training={"weighting": weighting.spec})
    path = tmp_path / "prior.safetensors"
    write_safetensors(path, network, description, dtype=torch.float32)
    model = module(FineTuning, path)
    before = network.head.weight.detach().clone()
    tiny_trainer(tmp_path / "run", EMA(), max_steps=1).fit(model, datamodule=tiny_digits())
    again, levels, u = model.inner.describe("Digits"), model.inner.denoiser.levels, torch.linspace(0, 1, 5).double()
    assert type(levels) is type(schedule) and torch.equal(levels.quantile(u), schedule.quantile(u))
    assert again["prediction"] == prediction and again.get("sigma_data") == description.get("sigma_data")
    assert again["training"]["weighting"]["class_path"] == weighting.spec["class_path"]
    assert not torch.equal(model.network.head.weight, before)


def test_measurements_are_drawn_anew_in_every_step_and_are_the_same_in_validation(prior, tmp_path):
    model = module(FineTuning, prior, training=for_operator())
    tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0).fit(model, datamodule=tiny_digits())
    inner, seen = model.inner, []
    conditioning_images = inner.conditioning_images
    inner.__dict__["conditioning_images"] = lambda image, index: (
        seen.append(conditioning_images(image, index)) or seen[-1]
    )
    batch = tiny_digits().images("train").get([0, 1])
    batch = batch._replace(image=batch.image.float() / 127.5 - 1)
    for seed in (1, 2, 1):
        model.losses(batch, torch.Generator().manual_seed(seed))
    for _ in range(2):
        model.validation_step(batch, 0)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1]) and torch.equal(seen[3], seen[4])


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        (
            LoRAFineTuning,
            {"targets": ["convv1"]},
            r"'convv1' matches no layer of the network \(did you mean 'conv1'\?\)",
        ),
        (LoRAFineTuning, {"targets": ["norm1"]}, "'norm1' is no convolution or linear layer but a GroupNorm"),
        (LoRAFineTuning, {"targets": []}, "targets of the adapter are empty"),
        (LoRAFineTuning, {"targets": ["*"]}, "neither a name nor a regular expression"),
        (LoRAFineTuning, {"rank": 0}, "rank of an adapter must be at least 1"),
        (LoRAFineTuning, {"dropout": 1.0}, "dropout of an adapter"),
        (
            FineTuning,
            {"training": {"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"network": {}}}},
            "no option 'network'",
        ),
        (
            FineTuning,
            {"training": {"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"sampling_step": 3}}},
            "did you mean 'sampling_steps'",
        ),
        (
            FineTuning,
            {"training": {"init_args": {"sampling_steps": 3}}},
            r"model\.training has options and no class_path",
        ),
        (
            FineTuning,
            {"training": "lightning_modules.cold_diffusion.ColdDiffusion"},
            "no option|needs the option|unexpected",
        ),
        (FineTuning, {"training": "lightning_modules.fine_tuning.FineTuning"}, "not another fine-tuning"),
        (FineTuning, {"training": for_operator(degradation="degradations.grey.Gray")}, "has no attribute 'Gray'"),
    ],
)
def test_contradictions_are_one_sentence(kind, options, match, prior):
    with pytest.raises(UserError, match=match) as error:
        module(kind, prior, **options)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_adapter_or_prior_is_not_continued(prior, tmp_path):
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0)
    trainer.fit(module(LoRAFineTuning, prior, rank=2), datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = read_raw(tmp_path / "a.ckpt")
    other = write_tiny_prior(tmp_path / "other.safetensors", seed=1)
    for model, match in (
        (module(LoRAFineTuning, prior, rank=3), "other targets, rank or alpha"),
        (module(LoRAFineTuning, other, rank=2), "is not the one that the checkpoint's adapter was trained beside"),
    ):
        with pytest.raises(UserError, match=match):
            model.on_load_checkpoint({**content, "state_dict": dict(content["state_dict"])})
    # The prior changes under the checkpoint, or goes away.
    prior.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="trained beside other weights"):
        load_prior(tmp_path / "a.ckpt")
    prior.unlink()
    with pytest.raises(UserError, match="which is not there: put it back"):
        load_prior(tmp_path / "a.ckpt")


def test_no_labels_are_dropped_for_a_network_that_needs_them(tmp_path):
    """A network of guided-diffusion has no row for "no class"."""
    torch.manual_seed(0)
    network = UNet(
        in_channels=1,
        channels=8,
        multipliers=[1, 2],
        blocks=1,
        attention=[],
        groups=4,
        num_classes=10,
        null_class=False,
    )
    denoiser = assemble(network=network, schedule=Cosine(), prediction="epsilon", data_shape=(1, 8, 8))
    write_safetensors(tmp_path / "p.safetensors", network, describe_prior(denoiser, data="Digits"), dtype=torch.float32)
    model = module(LoRAFineTuning, tmp_path / "p.safetensors")
    assert model.inner.conditioning.dropout == 0
    tiny_trainer(tmp_path / "run", EMA(), max_steps=2).fit(model, datamodule=tiny_digits())


def test_snapshots_that_no_prior_could_be_read_from_are_refused_before_training(prior, tmp_path):
    trainer = tiny_trainer(tmp_path, EMA(profile="power", snapshot_every_n_images=16), max_steps=1)
    module(FineTuning, prior).check_trainer(trainer)
    with pytest.raises(UserError, match=r"ema\.snapshot_every_n_images .* leave it out"):
        module(LoRAFineTuning, prior).check_trainer(trainer)


def test_the_header_says_what_the_adapter_belongs_to(prior, tmp_path):
    model = module(LoRAFineTuning, prior)
    tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0).fit(model, datamodule=tiny_digits())
    with safetensors.safe_open(tmp_path / "adapter" / WEIGHTS, framework="pt") as file:
        assert file.metadata()["base_hash"] == model.base_hash
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 8 and config["base_model_name_or_path"] == str(prior)


@pytest.mark.parametrize("kind", [FineTuning, LoRAFineTuning])
def test_levels_that_the_sampler_cannot_walk_are_refused_before_training(kind, prior, tmp_path):
    """By the module that trains and not by the first grid of samples: Heun from 80 to 0.4 in its first step."""
    sampler = {"class_path": "diffusion.samplers.heun.Heun"}
    options = {"sampler": sampler, "sampling_steps": 3, "spacing": "karras"}
    model = module(kind, prior, training={"class_path": "lightning_modules.ddpm.DDPM", "init_args": options})
    before = weights_hash(model.network.state_dict())
    with pytest.raises(UserError, match=r"sampling_steps .* first step of Heun's method"):
        tiny_trainer(tmp_path, EMA(), max_steps=2).fit(model, datamodule=tiny_digits())
    assert model.global_step == 0 and weights_hash(model.network.state_dict()) == before
