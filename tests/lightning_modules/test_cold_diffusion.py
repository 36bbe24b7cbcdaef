"""The training of restorers: what a step draws, what validation and grids show, what a checkpoint says, what is
refused.
"""

import pytest
import torch
from helpers import tiny_digits, tiny_trainer

from callbacks.ema import EMA
from callbacks.run_checkpoint import AtomicCheckpointIO
from callbacks.sample_grid import SampleGrid
from checkpoints.cold_restorer import build_cold_restorer, describe_cold_restorer
from checkpoints.load import load_cold_restorer, load_prior
from common.batch import Batch
from common.errors import UserError
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask, GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation
from diffusion.cold_starts.constant_colour import ConstantColour
from diffusion.cold_starts.full_mask import FullMask
from lightning_modules import cold_diffusion
from lightning_modules.cold_diffusion import ColdDiffusion
from networks.unet import UNet


def tiny_cold(**options) -> ColdDiffusion:
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    return ColdDiffusion(
        **{"network": network, "family": GaussianMask(steps=6), "data_shape": [1, 8, 8], "warmup_steps": 1, **options}
    )


def trained(folder, *callbacks, **options) -> ColdDiffusion:
    model = tiny_cold(**options)
    trainer = tiny_trainer(folder, EMA(), *callbacks, max_steps=2, plugins=[AtomicCheckpointIO()])
    trainer.fit(model, datamodule=tiny_digits())
    return model


def batch_of(count: int) -> Batch:
    return Batch(
        torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1,
        torch.arange(count),
        torch.full((count,), -1),
    )


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_is_the_mean_distance_at_uniform_severities(loss, tmp_path):
    """A restorer that gives back what it is shown: the loss of each image is |D(x, t) - x| for its severity."""
    model = trained(tmp_path, loss=loss)
    seen = []

    def predict(x, severity, condition=None):
        seen.append((x, severity))
        return x

    model.restorer.predict = predict
    batch = batch_of(600)
    found = model.losses(batch, torch.Generator().manual_seed(3))
    x, severity = seen[0]
    difference = (x - batch.image).abs() if loss == "l1" else (x - batch.image).square()
    torch.testing.assert_close(found, difference.mean((1, 2, 3)))
    counts = severity.bincount(minlength=7)
    assert counts[0] == 0 and len(counts) == 7 and bool((counts[1:] > 60).all())


def test_two_processes_draw_the_parameters_and_severities_of_one(tmp_path, monkeypatch):
    model = trained(tmp_path)
    batch = batch_of(8)
    whole = model.losses(batch, torch.Generator().manual_seed(5))
    parts = []
    for rank in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(type(model.trainer), "world_size", 2)
            patch.setattr(type(model), "global_rank", rank)
            half = Batch(*(value[4 * rank : 4 * rank + 4] for value in batch))
            parts.append(model.losses(half, torch.Generator().manual_seed(5)))
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_validation_asks_the_same_questions_every_time(tmp_path):
    model = tiny_cold(learning_rate=1e-30, levels=3)
    seen = []
    model.log = lambda name, value, **_: seen.append((name, float(value))) if name.startswith("val/") else None
    tiny_trainer(tmp_path, EMA(enabled=False), max_steps=4).fit(model, datamodule=tiny_digits())
    half = len(seen) // 2
    assert half == 4 and seen[:half] == seen[half:]
    assert [n for n, _ in seen[:half]] == ["val/loss_s001-002", "val/loss_s003-004", "val/loss_s005-006", "val/loss"]


def test_a_checkpoint_says_what_it_undoes_and_where_it_begins(tmp_path):
    family = GaussianBlur(steps=30, taps=5, std=2.0, std_rate=0.01, truncate=True)
    model = trained(tmp_path, family=family, start=ConstantColour(noise=0.01), algorithm="improved")
    path = tmp_path / "last.ckpt"
    model.trainer.save_checkpoint(path)
    for weights in ("ema", "raw"):
        loaded = load_cold_restorer(path, weights=weights)
        assert loaded.restorer.family.same_as(family)
        assert loaded.start.state() == model.start.state() and loaded.start.fitted
        # Described and built again, it says the same.
        again, start = build_cold_restorer(loaded.description, where="the test")
        assert describe_cold_restorer(again, data="Digits", start=start) == describe_cold_restorer(
            loaded.restorer, data="Digits", start=loaded.start
        )
    # What the file draws is what the module draws.
    again = tiny_cold(family=GaussianBlur(steps=30, taps=5, std=2.0, std_rate=0.01, truncate=True), start=loaded.start)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.generate([3, 1]), model.generate([3, 1]))
    with pytest.raises(
        UserError, match=r"is a cold restorer, which has no levels of noise: restore with .*, draw with"
    ):
        load_prior(path)


def test_a_start_is_fitted_to_images_from_all_over_a_large_set(tmp_path, monkeypatch):
    """A folder comes class by class: its first images are of the first class alone."""
    monkeypatch.setattr(cold_diffusion, "LARGEST_FIT", 5)
    seen = []
    monkeypatch.setattr(ConstantColour, "fit", lambda self, images: seen.append(images))
    model, data = tiny_cold(family=GaussianBlur(steps=30, taps=5, std=2.0), start=ConstantColour()), tiny_digits()
    tiny_trainer(tmp_path, max_steps=0).fit(model, datamodule=data)
    images = data.images("train")
    assert torch.equal(seen[0], images.get([k * len(images) // 5 for k in range(5)]).image)


def test_a_hot_restorer_says_so(tmp_path):
    model = trained(tmp_path, family=GaussianNoiseFamily(steps=20), estimated_noise=True)
    model.trainer.save_checkpoint(tmp_path / "hot.ckpt")
    restorer = load_cold_restorer(tmp_path / "hot.ckpt").restorer
    assert restorer.as_denoiser().num_timesteps == 20


def test_generated_images_are_keyed_by_their_index(tmp_path):
    model = trained(tmp_path, family=CoveringMask(steps=5), start=FullMask())
    many = model.generate([0, 1, 2, 3])
    torch.testing.assert_close(model.generate([2])[0], many[2], atol=1e-5, rtol=0)
    assert not torch.allclose(many[0], many[1], rtol=1e-3, atol=1e-5)


def test_grids_show_degraded_direct_sampled_and_true_images(tmp_path):
    model = trained(tmp_path, SampleGrid(count=16))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 1
    shown, columns = model.samples(16, 4)
    assert shown.shape == (16, 1, 8, 8) and columns == 4
    batch = model.trainer.datamodule.images("validation").get(range(4))
    truth = batch.image.float() / 127.5 - 1
    torch.testing.assert_close(shown[12:], truth)
    torch.testing.assert_close(shown[:4], model.restorer.family(truth, 6, model._params(batch.index.tolist())))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"family": GaussianBlur()}, "taps=11 is wider than the image of 8x8"),
        ({"family": Pixelation(steps=9)}, "leave less than one pixel"),
        ({"data_shape": [3, 8, 8]}, "network.in_channels is 1, and data_shape says 3"),
        ({"loss": "l3"}, "loss must be l1 or l2"),
        ({"sampling_steps": 0}, "steps must be at least 1"),
        ({"levels": 0}, "levels must be at least 1"),
        ({"start": ConstantColour()}, "ConstantColour is no start for Gaussian mask"),
        ({"estimated_noise": True}, "estimated_noise is for the Gaussian family"),
        ({"algorithm": "other"}, "algorithm must be one of"),
    ],
)
def test_contradictory_options_are_refused(options, match):
    with pytest.raises(UserError, match=match):
        tiny_cold(**options)


def test_a_restorer_without_a_start_does_not_generate(tmp_path):
    with pytest.raises(UserError, match="does not generate: give a start"):
        trained(tmp_path).generate([0])
