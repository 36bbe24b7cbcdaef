"""Training with conditioning images: the regression with a conditioning image of zeros, what is drawn, what is refused,
and a run from the bank to the checkpoint.
"""

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from checkpoints.load import load_prior
from common.batch import Batch
from common.errors import UserError
from common.image_range import to_float
from diffusion.denoiser import Condition
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.image_conditioned_ddpm import ImageConditionedDDPM
from networks.unet import UNet
from restoration.conditioning_bank import ConditioningBank, ConditioningImages


def bank(folder, **options) -> ConditioningBank:
    return ConditioningBank(
        **{
            "path": str(folder / "conditioning_images.safetensors"),
            "method": "restoration.degraded.Degraded",
            "noise": {"sigma": 0.5},
            **options,
        }
    )


def filled(folder, data, **options) -> ConditioningBank:
    made = bank(folder, **options)
    for split in ("train", "validation"):
        images = data.images(split)
        made.compute(lambda rows, images=images: (images.get(rows).image, images.get(rows).index), len(images))
    return made


def module(given: ConditioningBank, inputs: int = 2, **options) -> ImageConditionedDDPM:
    torch.manual_seed(0)
    network = UNet(in_channels=inputs, out_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    fixed = {
        "schedule": Cosine(),
        "data_shape": [1, 8, 8],
        "sampler": DDIM(),
        "prediction": "v",
        "sampling_steps": 2,
        "warmup_steps": 1,
    }
    return ImageConditionedDDPM(network=network, bank=given, **{**fixed, **options})


def test_guides_of_zeros_are_plain_training_bit_for_bit(tmp_path, monkeypatch):
    """The same weights after three steps as DDPM: form shifted without the second input."""
    monkeypatch.setattr(
        ConditioningBank,
        "conditioning_images",
        lambda self, index, device="cpu": ConditioningImages(torch.zeros(len(index), 1, 8, 8)),
    )
    weights = []
    for model in (tiny_module(), module(bank(tmp_path), inputs=1, form="shifted", sees_image=False)):
        tiny_trainer(tmp_path, EMA(), max_steps=3, limit_val_batches=0).fit(model, datamodule=tiny_digits())
        weights.append(model.network.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize(
    "options", [{}, {"form": "shifted"}, {"form": "residual", "residual_std": 0.4, "last_time": 0.5}]
)
def test_a_run_draws_with_guides_and_its_checkpoint_is_a_prior(options, tmp_path):
    data = tiny_digits()
    model = module(filled(tmp_path, data), **options)
    trainer = tiny_trainer(tmp_path, EMA())
    trainer.fit(model, datamodule=data)
    drawn = model.generate([0, 1, 25])
    images = data.images("validation")
    conditioning = model.bank.conditioning_images(images.get([0, 1, 25 % len(images)]).index).image
    assert drawn.shape == (3, 1, 8, 8) and torch.allclose(model.generate([25])[0], drawn[2], atol=1e-5)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    prior = load_prior(tmp_path / "a.ckpt", weights="raw").denoiser
    assert prior.takes_image and prior.options == model.denoiser.options
    x, sigma = conditioning + 0.1, torch.full((3,), 0.2)
    model.network.eval()
    assert torch.allclose(
        prior.predict(x, sigma, Condition(image=conditioning)).x0,
        model.denoiser.predict(x, sigma, Condition(image=conditioning)).x0,
        atol=1e-6,
    )


def test_a_replaced_input_has_a_floor(tmp_path):
    """Where the method takes everything out of the input (a constant), the best loss is the variance of the noise, 1;
    where nothing, it learns.
    """
    data = tiny_digits()
    made = filled(tmp_path, data, noise=None, schedule="diffusion.schedules.Cosine")
    model = module(made, inputs=1, form="replaced", prediction="epsilon", schedule=Cosine())
    batch = data.images("validation").get(range(16))
    batch = Batch(to_float(batch.image), batch.index, batch.label)
    model.trainer = tiny_trainer(tmp_path)
    conditioning_images = made.conditioning_images(batch.index)
    output = model.denoiser.output(conditioning_images.image, conditioning_images.time.float())
    expected = (output - conditioning_images.noise).square().flatten(1).mean(1)
    torch.testing.assert_close(model.losses(batch, torch.Generator().manual_seed(0)), expected)
    torch.nn.init.zeros_(model.network.head.weight)
    torch.nn.init.zeros_(model.network.head.bias)
    assert float(model.losses(batch, torch.Generator().manual_seed(0)).mean()) == pytest.approx(1, abs=0.1)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="needs a bank with a schedule"):
        module(bank(tmp_path), form="replaced")
    with pytest.raises(UserError, match="residual_std belongs to form residual"):
        module(bank(tmp_path), form="residual")
    with pytest.raises(UserError, match="in_channels to 2"):
        module(bank(tmp_path), inputs=1)
    diffused = bank(tmp_path, noise=None, schedule="diffusion.schedules.Linear")
    with pytest.raises(UserError, match="make them equal"):
        module(diffused, inputs=1, form="replaced", prediction="epsilon")
    with pytest.raises(UserError, match="there is no bank"):
        tiny_trainer(tmp_path).fit(module(bank(tmp_path)), datamodule=tiny_digits())
    with pytest.raises(UserError, match="not mirrored with them"):
        tiny_trainer(tmp_path).fit(
            module(filled(tmp_path, tiny_digits())), datamodule=tiny_digits(horizontal_flip=True)
        )
    cropped = tiny_digits()
    cropped.crop = "random"  # as datamodules.image_folder.ImageFolder has it
    with pytest.raises(UserError, match="not cropped with them"):
        tiny_trainer(tmp_path).fit(module(filled(tmp_path, tiny_digits())), datamodule=cropped)
