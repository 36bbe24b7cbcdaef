"""A DDPM that is trained with masks: which masks an image gets, and that it steps."""

import pytest
import torch
from helpers import tiny_digits, tiny_trainer

from common.batch import Batch
from common.errors import UserError
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.half_mask import HalfMask
from degradations.random_mask import RandomMask
from diffusion.masked_training import ExactPosterior, MaskedLoss
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.ddpm import DDPM
from lightning_modules.masked_ddpm import MaskedDDPM
from networks.unet import UNet


def module(**options) -> MaskedDDPM:
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    fixed = {
        "network": network,
        "schedule": Cosine(),
        "data_shape": [1, 8, 8],
        "sampler": DDIM(),
        "prediction": "v",
        "sampling_steps": 2,
        "warmup_steps": 1,
        "variant": ExactPosterior(),
        "masks": [BoxMask(size=4), HalfMask()],
    }
    return MaskedDDPM(**{**fixed, **options})


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> Batch:
    return Batch(torch.rand(4, 1, 8, 8) * 2 - 1, torch.arange(4), torch.full((4,), -1))


def test_it_trains_validates_and_says_how(tmp_path):
    model = module()
    trainer = tiny_trainer(tmp_path)
    trainer.fit(model, datamodule=tiny_digits())
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
    assert model.describe("Digits")["training"]["masked"]["class_path"] == "diffusion.masked_training.ExactPosterior"


def test_masks_of_a_step_are_of_the_step_and_of_the_image():
    """Another step draws another mask, where they are redrawn; the batch around an image changes nothing."""
    model, drawn = module(masks=[RandomMask(removed=0.5)], unmasked=0.0), []
    ask = model.variant.ask
    model.variant.ask = lambda denoiser, time, missing: (drawn.append(missing), ask(denoiser, time, missing))[1]
    model.trainer = tiny_trainer(None)
    for seed in (1, 1, 2):
        model.losses(batch(), generator(seed))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    model.redraw = False
    for seed in (1, 2):
        model.losses(batch(), generator(seed))
    assert torch.equal(drawn[3], drawn[4]) and torch.equal(model.missing([2]), drawn[3][[2]])
    assert not torch.equal(drawn[3][0], drawn[3][1]) and float(drawn[3].mean()) == 0.5


def test_families_and_images_without_a_known_pixel():
    model = module(unmasked=0.5)
    shares = model.missing(list(range(400))).flatten(1).mean(1)
    assert float((shares == 1).float().mean()) == pytest.approx(0.5, abs=0.08)
    assert float((shares == 0.25).float().mean()) == pytest.approx(0.25, abs=0.08)  # a box of 4x4 in 8x8
    assert set(shares.tolist()) == {1.0, 0.5, 0.25}


def test_of_strength_0_it_is_plain_training():
    model = module(variant=MaskedLoss(strength=0))
    plain = DDPM(
        network=model.network, schedule=Cosine(), data_shape=[1, 8, 8], sampler=DDIM(), prediction="v", sampling_steps=2
    )
    model.trainer = plain.trainer = tiny_trainer(None)
    given = batch()
    assert torch.equal(model.losses(given, generator(3)), plain.losses(given, generator(3)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"masks": []}, "model.masks must name at least one"),
        ({"unmasked": 1.5}, "model.unmasked lie in 0"),
        ({"masks": [AveragePool(factor=2)]}, "AveragePool keeps no single pixels"),
        ({"masks": [BoxMask(size=9)]}, "more than the 8 pixels"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(UserError, match=words):
        module(**options)
