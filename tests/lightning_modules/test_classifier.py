"""The classifier in training: augmentation, exact accuracy, refusals; every shipped config of it is built and takes a
step.
"""

from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, tiny_digits, tiny_trainer, write_config, write_tiny_prior

from callbacks.ema import EMA
from checkpoints.classifier import describe_classifier, load_classifier
from checkpoints.files import write_safetensors
from common.batch import Batch
from common.errors import UserError
from datamodules.digits import Digits
from lightning_modules.classifier import Classifier, moved
from networks.resnet import ResNet
from training.cli import TrainCLI


def tiny(**options: object) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        **{
            "network": ResNet(in_channels=1, channels=[8, 16], groups=4),
            "data_shape": [1, 8, 8],
            "warmup_steps": 5,
            "shift": 1,
            **options,
        }
    )


def test_moving_moves_whole_pixels_and_repeats_the_edge():
    image = torch.arange(2 * 2 * 3 * 4.0).view(2, 2, 3, 4)
    out = moved(image, torch.tensor([[1, 0], [0, -2]]))
    assert torch.equal(out[0, :, 1:], image[0, :, :-1]) and torch.equal(out[0, :, 0], image[0, :, 0])
    assert torch.equal(out[1, :, :, :2], image[1, :, :, 2:]) and torch.equal(out[1, :, :, 3], image[1, :, :, 3])
    assert torch.equal(moved(image, torch.zeros(2, 2, dtype=torch.long)), image)
    assert moved(image[:, :1], torch.zeros(2, 2, dtype=torch.long)).stride() == (
        12,
        12,
        4,
        1,
    ), "one channel stays in contiguous memory"


def test_it_learns_digits_and_its_checkpoint_says_what_it_is(tmp_path):
    model, data = tiny(learning_rate=1e-2), tiny_digits(limit=None, batch_size=64, validation=100)
    trainer = tiny_trainer(
        tmp_path, EMA(half_life_images=500), max_steps=150, val_check_interval=75, check_val_every_n_epoch=None
    )
    trainer.fit(model, datamodule=data)
    result = trainer.test(model, datamodule=data, verbose=False)[0]
    assert result["test/accuracy"] > 0.9, result
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_classifier(tmp_path / "last.ckpt")
    assert loaded.description["data"] == {
        "name": "Digits",
        "shape": [1, 8, 8],
        "range": [-1, 1],
    } and loaded.fingerprint.endswith(":ema")
    images = data.images("test").get(torch.arange(50))
    accuracy = (loaded.network(images.image.float() / 127.5 - 1).argmax(1) == images.label).float().mean()
    assert accuracy > 0.85


def test_the_noise_of_a_step_is_keyed(tmp_path):
    model = tiny(shift=3)
    tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0).fit(model, datamodule=tiny_digits())
    batch = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4))

    def loss(seed: int) -> float:
        return float(model.losses(batch, torch.Generator().manual_seed(seed)).mean().detach())

    assert loss(1) == loss(1) != loss(2)


def test_the_learning_rate_falls_to_zero(tmp_path):
    model = tiny(learning_rate=1.0e-3)
    trainer = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=20, limit_val_batches=0)
    trainer.fit(model, datamodule=tiny_digits())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-8)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="channels"):
        tiny(data_shape=[3, 8, 8])
    with pytest.raises(UserError, match="shift"):
        tiny(shift=8)
    few = tiny(network=ResNet(in_channels=1, num_classes=4, channels=[8, 16], groups=4))
    with pytest.raises(UserError, match=r"labels up to 9.*4 classes"):
        tiny_trainer(tmp_path, EMA()).fit(few, datamodule=tiny_digits())


class Unlabelled(Digits):
    def images(self, split):
        images = super().images(split)
        images.store.label.fill_(-1)
        return images


@pytest.mark.parametrize("method", ["fit", "validate", "test"])
def test_images_without_labels_are_refused(tmp_path, method):
    data = Unlabelled(batch_size=16, limit=64, validation=20)
    with pytest.raises(UserError, match="Unlabelled has images without labels"):
        getattr(tiny_trainer(tmp_path, EMA()), method)(tiny(), datamodule=data)


def command(monkeypatch, folder: Path, subcommand: str, *options: object) -> TrainCLI:
    """train.py of this process on a tiny config."""
    network = {
        "class_path": "networks.resnet.ResNet",
        "init_args": {"in_channels": 1, "channels": [8, 16], "groups": 4},
    }
    config = {
        "model": {
            "class_path": "lightning_modules.classifier.Classifier",
            "init_args": {"network": network, "data_shape": [1, 8, 8]},
        },
        "data": {"class_path": "datamodules.digits.Digits", "init_args": {"batch_size": 64, "validation": 100}},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
    }
    path = write_config(folder, config)
    monkeypatch.setattr(
        "sys.argv", ["train.py", subcommand, "--config", str(path), "--run", str(folder / "run"), *map(str, options)]
    )
    return TrainCLI()


def test_the_command_measures_checkpoints_and_released_files_alike(monkeypatch, tmp_path):
    model, data = tiny(), tiny_digits(limit=None, batch_size=64, validation=100)
    trainer = tiny_trainer(tmp_path, EMA(half_life_images=500), max_steps=30, limit_val_batches=0)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_classifier(tmp_path / "last.ckpt")
    write_safetensors(
        tmp_path / "released.safetensors", loaded.network, loaded.description, dtype=torch.float32, key="classifier"
    )
    test = data.images("test").get(torch.arange(len(data.images("test"))))
    expected = float((loaded.network(test.image.float() / 127.5 - 1).argmax(1) == test.label).float().mean())
    for name in ("last.ckpt", "released.safetensors"):
        found = command(monkeypatch, tmp_path, "test", "--ckpt_path", tmp_path / name).trainer.callback_metrics
        assert float(found["test/accuracy"]) == pytest.approx(expected, abs=1e-6), name


def test_the_command_refuses_another_network_and_no_classifier(monkeypatch, tmp_path):
    torch.manual_seed(0)
    wide = ResNet(in_channels=1, channels=[16, 16], groups=4)
    write_safetensors(
        tmp_path / "wide.safetensors", wide, describe_classifier(wide, shape=(1, 8, 8), data="Digits"), key="classifier"
    )
    with pytest.raises(UserError, match=r"another network than the config \(init_args.channels"):
        command(monkeypatch, tmp_path, "test", "--ckpt_path", tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match="is a prior, and a classifier is needed here"):
        command(monkeypatch, tmp_path, "validate", "--ckpt_path", write_tiny_prior(tmp_path / "prior.safetensors"))
    with pytest.raises(UserError, match="predict draws images from a prior"):
        command(monkeypatch, tmp_path, "predict", "--ckpt_path", tmp_path / "wide.safetensors")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/train").glob("classifier_*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_config_is_built_and_steps(path: Path, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sys.argv",
        ["train.py", "fit", "--config", str(path), "--run", str(tmp_path / "run"), "--wandb.mode", "disabled"],
    )
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    cli = TrainCLI()
    model = cli.model
    assert tuple(cli.datamodule.shape) == tuple(model.data_shape)
    assert model.network.feature_dimension == 64
    assert 2 * sum(p.numel() for p in model.network.parameters()) < 480_000, "the released file stays under 500 kB"
    logits = model.network(torch.zeros(2, *model.data_shape))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 9])).backward()
    assert yaml.safe_load(path.read_text())["data"]["init_args"]["validation"] > 0
