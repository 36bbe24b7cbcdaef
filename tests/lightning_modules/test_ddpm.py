"""The training module: what a step draws, what validation reports, what generate depends on."""

import math

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from checkpoints.load import load_prior
from common.batch import Batch
from common.errors import UserError
from diffusion.edm import LogNormal
from diffusion.flow import LogitNormalTimes, UniformTimes
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.heun import Heun
from diffusion.schedules import Cosine, Linear, SigmoidAlphaBar, ZeroTerminalSNR
from diffusion.variational import variational_bound
from diffusion.weighting.edm import EDM
from diffusion.weighting.p2 import P2
from diffusion.weighting.simple import Simple
from diffusion.weighting.target import Target
from lightning_modules.ddpm import DDPM
from networks.unet import UNet


def attached(tmp_path, **options):
    """A module that has a trainer, without having trained."""
    model = tiny_module(**options)
    tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0).fit(model, datamodule=tiny_digits())
    return model


def test_the_noise_of_a_step_is_keyed_by_the_images_seen(tmp_path):
    model = attached(tmp_path)
    batch = Batch(torch.zeros(4, 1, 8, 8), torch.arange(4), torch.full((4,), -1))

    def loss(images_seen: int, global_seed: int) -> float:
        torch.manual_seed(global_seed)
        model.images_seen = images_seen
        generator = torch.Generator().manual_seed(model._key("noise"))
        return float(model.losses(batch, generator).mean().detach())

    assert loss(64, 0) == loss(64, 1) != loss(128, 0)


def test_a_training_step_counts_images_and_does_not_depend_on_the_global_seed(tmp_path):
    weights = []
    for seed in (0, 1):
        model = tiny_module()
        torch.manual_seed(seed)
        tiny_trainer(tmp_path, EMA(), max_steps=3, limit_val_batches=0).fit(model, datamodule=tiny_digits())
        weights.append(model.network.state_dict())
        assert model.images_seen == 48
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_generated_images_are_keyed_by_their_index(tmp_path):
    model = attached(tmp_path)
    many = model.generate([0, 1, 2, 3])
    # Convolution kernels may sum in another order for another batch size: float32 rounding, not other noise.
    torch.testing.assert_close(model.generate([2])[0], many[2], atol=1e-5, rtol=0)
    assert not torch.allclose(many[0], many[1], atol=1e-2)


def test_validation_asks_the_same_questions_every_time(tmp_path):
    model = tiny_module(learning_rate=1e-30)
    trainer = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=4)
    seen = []
    model.log = lambda name, value, **_: seen.append((name, float(value))) if name.startswith("val/") else None
    trainer.fit(model, datamodule=tiny_digits())
    half = len(seen) // 2
    assert half == 6 and seen[:half] == seen[half:]
    assert [n for n, _ in seen[:half]] == [
        *(f"val/loss_t{a:03d}-{a + 199:03d}" for a in range(0, 1000, 200)),
        "val/loss",
    ]


def test_the_loss_over_all_levels_is_the_mean_over_images(tmp_path):
    """Twenty images fall into five levels unequally: the mean over images is not the mean of the levels' means."""
    model = attached(tmp_path)
    images = tiny_digits().images("validation").get(list(range(20)))
    batch = Batch(images.image.float() / 127.5 - 1, images.index, images.label)
    with torch.no_grad():
        model.validation_step(batch, 0)
    losses = model.validation_losses
    counts = [float(m.weight) for m in losses.parts]
    assert float(losses.whole.weight) == 20 == sum(counts)
    total = sum(float(m.compute()) * c for m, c in zip(losses.parts, counts, strict=True) if c)
    assert float(losses.whole.compute()) == pytest.approx(total / 20, rel=1e-5)


def test_another_shape_than_the_data_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data_shape is \[1, 16, 16\].*\[1, 8, 8\]"):
        tiny_trainer(tmp_path, EMA()).fit(tiny_module(data_shape=[1, 16, 16]), datamodule=tiny_digits())


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"warmup_steps": -1},
        {"data_shape": [8, 8]},
        {"sampling_steps": 2000},
        {"spacing": "even"},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(UserError):
        tiny_module(**wrong)


def labelled(**options):
    """A DDPM of ten classes whose last layer is not zero."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4, num_classes=10)
    with torch.no_grad():
        network.head.weight.normal_(std=0.1)
    fixed = {
        "schedule": Cosine(),
        "data_shape": [1, 8, 8],
        "sampler": DDIM(),
        "prediction": "v",
        "sampling_steps": 2,
        "warmup_steps": 1,
    }
    return DDPM(network=network, **{**fixed, **options})


def moved_rows(tmp_path, **options):
    """Which rows of the table of labels four steps have changed."""
    model = labelled(**options)
    before = model.network.label_embedding.weight.detach().clone()
    tiny_trainer(tmp_path, EMA(), max_steps=4, limit_val_batches=1).fit(model, datamodule=tiny_digits())
    return (model.network.label_embedding.weight.detach() - before).abs().amax(1) > 0


def test_a_network_with_classes_is_given_the_labels(tmp_path):
    moved = moved_rows(tmp_path, label_dropout=0.0)
    assert moved[:10].any(), "the rows of the digits are trained"
    assert not moved[10], "the row of 'no class' is not: every digit has a label"


def test_labels_are_dropped_in_training(tmp_path):
    moved = moved_rows(tmp_path, label_dropout=0.5)
    assert moved[:10].any() and moved[10]


def test_dropped_labels_do_not_depend_on_the_number_of_processes(tmp_path):
    """They are drawn for the global batch, after times and noise, and sliced, as those are."""
    model = labelled(label_dropout=0.5)
    tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0).fit(model, datamodule=tiny_digits())
    batch = Batch(torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8), torch.arange(8))
    seen, of_training = [], model.conditioning.of_training
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(model.conditioning),
            "of_training",
            lambda self, label, u: seen.append(of_training(label, u)) or seen[-1],
        )
        whole = model.losses(batch, torch.Generator().manual_seed(5))
        parts = []
        for rank in (0, 1):
            patch.setattr(type(model.trainer), "world_size", 2)
            patch.setattr(type(model), "global_rank", rank)
            half = Batch(*(part[4 * rank : 4 * rank + 4] for part in batch))
            parts.append(model.losses(half, torch.Generator().manual_seed(5)))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    labels = [condition.label for condition in seen]
    assert torch.equal(torch.cat(labels[1:]), labels[0]) and 0 < int((labels[0] < 0).sum()) < 8


def test_classes_are_drawn_in_turn_and_guided(tmp_path):
    found = {}
    for scale in (1.0, 3.0):
        model = labelled(guidance_scale=scale)
        tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0).fit(
            model, datamodule=tiny_digits()
        )
        seen = []
        model.network.register_forward_pre_hook(lambda module, arguments, seen=seen: seen.append(arguments[2].tolist()))
        found[scale] = model.generate(list(range(12)))
        assert seen[0] == [*range(10), 0, 1] + ([] if scale == 1 else [-1] * 12) and len(seen) == 2
    assert not torch.allclose(found[1.0], found[3.0])


def network(**options):
    return UNet(
        **{"in_channels": 1, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4, **options}
    )


def variant(network, **options):
    fixed = {
        "schedule": Cosine(),
        "data_shape": [1, 8, 8],
        "sampler": DDIM(),
        "prediction": "v",
        "sampling_steps": 3,
        "warmup_steps": 1,
    }
    return DDPM(network=network, **{**fixed, **options})


VARIANTS = {
    "learned": (
        {"out_channels": 2},
        {"variance": "learned_range", "sampler": AncestralDDPM(variance="learned"), "schedule": Cosine(steps=100)},
    ),
    "zero_snr": ({}, {"schedule": ZeroTerminalSNR(schedule=Linear()), "weighting": Target()}),
    "edm": (
        {},
        {
            "schedule": LogNormal(),
            "prediction": "edm",
            "weighting": EDM(),
            "sampler": Heun(),
            "spacing": "karras",
            "sampling_steps": 4,
        },
    ),
    "flow": ({}, {"schedule": UniformTimes(), "prediction": "velocity", "weighting": Target()}),
    "flow_logit_normal": (
        {"num_classes": 10},
        {"schedule": LogitNormalTimes(), "prediction": "velocity", "weighting": Target(), "guidance_scale": 2.0},
    ),
    "p2": ({}, {"weighting": P2(), "prediction": "epsilon", "schedule": SigmoidAlphaBar()}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_validates_draws_and_is_read_again(name, tmp_path):
    of_network, options = VARIANTS[name]
    torch.manual_seed(0)
    model = variant(network(**of_network), learning_rate=1e-3, **options)
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=4)
    trainer.fit(model, datamodule=tiny_digits())
    logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    bins = [k for k in logged if k.startswith("val/loss_")]
    continuous = name in ("edm", "flow", "flow_logit_normal")
    assert len(bins) == 5 and all(k.startswith("val/loss_q" if continuous else "val/loss_t") for k in bins)
    assert ("val/bits_per_dim" in logged) == (name == "learned") and all(math.isfinite(v) for v in logged.values())
    images = model.generate([0, 1])
    assert images.shape == (2, 1, 8, 8) and bool(images.isfinite().all())
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    prior = load_prior(path, weights="raw")
    x, sigma = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 2.0])
    for one, other in zip(
        vars(prior.denoiser.predict(x, sigma)).values(),
        vars(model.denoiser.eval().predict(x, sigma)).values(),
        strict=True,
    ):
        assert (one is None and other is None) or torch.equal(one, other)
    assert (
        prior.denoiser.learns_variance == (name == "learned") and prior.denoiser.sigma_max == model.denoiser.sigma_max
    )


def test_bits_per_dim_are_the_bound(tmp_path):
    """The validation's estimate, over images that each stand for one time, against the sum over all times."""
    torch.manual_seed(0)
    model = variant(network(out_channels=2), variance="learned_range", schedule=Cosine(steps=12))
    tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0).fit(
        model, datamodule=tiny_digits(limit=1000)
    )
    images = tiny_digits(limit=1000).images("train").get(list(range(1000)))
    batch = Batch(images.image.float() / 127.5 - 1, images.index, images.label)
    with torch.no_grad():
        model.validation_step(batch, 0)
        noise = lambda t: torch.randn(batch.image.shape, generator=torch.Generator().manual_seed(t))  # noqa: E731
        bound = variational_bound(model.denoiser, batch.image, noise)
    assert float(model.validation_bits.compute()) == pytest.approx(float(bound.total.mean()), rel=0.05)


@pytest.mark.parametrize(
    ("of_network", "options", "match"),
    [
        ({}, {"variance": "learned_range"}, "'learned_range' needs 2 output channels"),
        ({"out_channels": 2}, {}, "2 output channels.*variance to learned_range"),
        ({"in_channels": 3}, {}, "3 input channels"),
        ({}, {"sampler": AncestralDDPM(variance="learned")}, "did not learn any"),
        ({}, {"schedule": ZeroTerminalSNR(schedule=Cosine()), "prediction": "epsilon"}, "pure noise"),
        ({}, {"schedule": ZeroTerminalSNR(schedule=Cosine()), "weighting": Simple()}, "Simple is 0 at the last time"),
        ({}, {"guidance_scale": 2.0}, "guidance_scale=2.0 needs labels"),
        ({}, {"label_dropout": 0.1}, "label_dropout=0.1 needs labels"),
        ({"num_classes": 10}, {"sampling_label": 10}, r"0 \.\. 9"),
        ({"num_classes": 10}, {"guidance_scale": float("inf")}, "scale must be finite"),
        ({}, {"prediction": "edm"}, "continuum of levels"),
        ({}, {"schedule": LogNormal()}, "'v' needs a schedule"),
        ({}, {"prediction": "velocity"}, "continuum of levels, not on Cosine.*UniformTimes"),
        ({}, {"schedule": UniformTimes(), "prediction": "velocity"}, "Simple falls to 0.*Target"),
        (
            {"out_channels": 2},
            {"schedule": UniformTimes(), "prediction": "velocity", "weighting": Target(), "variance": "learned_range"},
            "needs a discrete schedule",
        ),
        ({}, {"schedule": LogNormal(), "prediction": "edm", "sigma_data": -1.0}, "sigma_data"),
        (
            {},
            {"schedule": LogNormal(), "prediction": "edm", "sigma_data": 0.6, "weighting": EDM()},
            "has sigma_data 0.5, and the network is scaled for 0.6",
        ),
        ({"out_channels": 2}, {"variance": "learned_range", "vlb_weight": 0.0}, "vlb_weight"),
        ({}, {"levels": 0}, "levels must be at least 1"),
    ],
)
def test_contradictions_are_refused_before_training(of_network, options, match):
    with pytest.raises(UserError, match=match) as error:
        variant(network(**of_network), **options)
    assert "\n" not in str(error.value)


def test_labels_that_the_network_has_no_row_for(tmp_path):
    with pytest.raises(UserError, match=r"Digits.*labels up to 9.*num_classes to 10, not 5"):
        tiny_trainer(tmp_path, EMA()).fit(variant(network(num_classes=5)), datamodule=tiny_digits())


def test_levels_that_heun_cannot_walk_are_refused_and_an_old_run_goes_on(tmp_path):
    """Heun from 80 to 2.5 in its first step: a new run is told, one that was begun before keeps its training and draws
    with DDIM. From the cosine schedule's last level, 20291, it begins at 80.
    """
    options = {"schedule": LogNormal(), "prediction": "edm", "weighting": EDM(), "spacing": "karras"}
    with pytest.raises(UserError, match=r"sampling_steps .* first step of Heun's method"):
        tiny_trainer(tmp_path, EMA()).fit(variant(network(), sampler=Heun(), **options), datamodule=tiny_digits())
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=1)
    trainer.fit(variant(network(), **options), datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    old = variant(network(), sampler=Heun(), **options)
    with pytest.warns(UserWarning, match="drawn with DDIM"):
        tiny_trainer(tmp_path, EMA(), max_steps=2).fit(old, datamodule=tiny_digits(), ckpt_path=tmp_path / "old.ckpt")
    assert isinstance(old.sampler, DDIM) and old.global_step == 2
    assert variant(network(), sampler=Heun(), sampling_steps=18).sampling_sigmas[0] == 80
    assert variant(network(), sampling_steps=18).sampling_sigmas[0] > 20000
