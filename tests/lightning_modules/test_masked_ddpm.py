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
from degradations.spot_mask import SpotMask
from degradations.stored_masks import StoredMasks, write_masks
from diffusion.masked_training import ExactPosterior, MaskedLoss, PixelSeverity
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


def test_masks_in_turn_change_as_training_goes_on():
    """The first of three, then more and more of the second, the last at the end; in validation all of them."""
    masks = [BoxMask(size=4), HalfMask(), RandomMask(removed=0.75)]
    model = module(masks=masks, in_turn=True, unmasked=0.0)

    class Steps:
        global_step, estimated_stepping_batches = 0, 100

    model.trainer = Steps()

    def shares(step: int) -> list[float]:
        Steps.global_step = step
        found = model.missing(list(range(300))).flatten(1).mean(1)
        return [float((found == s).float().mean()) for s in (0.25, 0.5, 0.75)]

    model.train()
    assert shares(0) == [1, 0, 0] and shares(50) == [0, 1, 0] and shares(100) == [0, 0, 1]
    assert shares(80) == pytest.approx([0, 0.4, 0.6], abs=0.08)
    model.eval()
    assert shares(0) == shares(80) == pytest.approx([1 / 3] * 3, abs=0.08)


def test_in_turn_needs_an_end(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=-1, max_time={"seconds": 20})
    with pytest.raises(UserError, match=r"give trainer\.max_steps"):
        trainer.fit(module(in_turn=True), datamodule=tiny_digits())


def test_masks_of_a_file_suit_all_images_or_are_refused_before_training(tmp_path):
    """Those that are trained on, and those of the validation, which comes later; and images are not mirrored."""
    data = tiny_digits()
    train, validation = (data.images(split) for split in ("train", "validation"))
    index = torch.cat([images.store.index[images.positions] for images in (train, validation)])
    known = torch.rand(len(index), 8, 8, generator=generator(0)) < 0.5
    for rows, options, words in (
        (slice(None), {}, None),
        (slice(len(train)), {}, rf"no mask of image {index[len(train)]}, one of the validation images.*validation: 0"),
        (slice(1, None), {}, rf"no mask of image {index[0]}, one of the train images"),
        (slice(None), {"horizontal_flip": True}, "data.horizontal_flip to false"),
    ):
        write_masks(tmp_path / "masks.npz", index[rows], known[rows])
        model = module(masks=[HalfMask(), StoredMasks(path=str(tmp_path / "masks.npz"))], redraw=False)
        trainer = tiny_trainer(tmp_path, max_steps=2)
        if words is None:
            trainer.fit(model, datamodule=tiny_digits(**options))
            assert trainer.global_step == 2
            continue
        with pytest.raises(UserError, match=words):
            trainer.fit(model, datamodule=tiny_digits(**options))
        assert trainer.global_step == 0


def test_soft_masks_are_missing_by_halves():
    model = module(masks=[SpotMask(soft=True)], variant=PixelSeverity(), unmasked=0.0)
    found = model.missing([0, 1])
    assert found.shape == (2, 1, 8, 8) and bool(((found > 0.1) & (found < 0.9)).any())


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
        ({"masks": [SpotMask(soft=True)]}, "SpotMask dims pixels, and ExactPosterior knows only missing and known"),
        ({"masks": [BoxMask(size=4)], "in_turn": True}, "in_turn needs at least two masks and redraw, got 1"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(UserError, match=words):
        module(**options)
