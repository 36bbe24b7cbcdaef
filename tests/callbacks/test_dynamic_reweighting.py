"""Weights that follow what is drawn: what a look changes, when, and what is refused."""

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.dynamic_reweighting import DynamicReweighting
from callbacks.ema import EMA
from callbacks.metrics_csv import MetricsCSV
from checkpoints.classifier import describe_classifier
from checkpoints.files import write_safetensors
from common.errors import UserError
from datamodules.reweighting import Reweighting
from networks.resnet import ResNet
from studies.clusters import write_clusters


@pytest.fixture
def classifier(tmp_path) -> str:
    return written(tmp_path / "tiny.safetensors")


def written(path, num_classes: int = 10) -> str:
    torch.manual_seed(0)
    network = ResNet(in_channels=1, channels=[8, 6], groups=2, num_classes=num_classes)
    description = describe_classifier(network, shape=(1, 8, 8), data="Digits")
    write_safetensors(path, network, description, dtype=torch.float32, key="classifier")
    return str(path)


def test_a_class_that_is_drawn_too_often_is_shown_less(tmp_path, classifier):
    """The shares are those of a classifier, the weights those by label times (10 q)^-0.5; they stay at last."""
    data = tiny_digits(reweighting=Reweighting(), limit=None)
    callback = DynamicReweighting(
        features=classifier, num_images=12, every_n_steps=2, smoothing=0.5, frozen=0.4, batch_size=5
    )
    trainer = tiny_trainer(
        tmp_path, EMA(half_life_images=100), callback, logger=MetricsCSV(tmp_path), limit_val_batches=0
    )
    trainer.fit(tiny_module(), datamodule=data)
    q = callback.drawn_shares(trainer, trainer.lightning_module)
    assert float(q.sum()) == pytest.approx(1) and q.shape == (10,)
    lines = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    looked = [row for row in rows if row.get("reweighting/share_0")]
    assert [row["step"] for row in looked] == ["2"]
    shares, weights = (
        torch.tensor([float(looked[0][f"reweighting/{name}_{c}"]) for c in range(10)]) for name in ("share", "weight")
    )
    begun = weights_by_label()
    answer = begun * (10 * shares.clamp(min=0.5 / 12)) ** -0.5
    assert (weights / weights[0]).tolist() == pytest.approx((answer / answer[0]).tolist(), rel=1e-3)
    assert trainer.train_dataloader.state_dict()["next_weights"] == pytest.approx(weights.tolist(), rel=1e-5)
    images = weights[trainer.train_dataloader.groups].double()
    effective = float(looked[0]["reweighting/effective_images"])
    assert effective == pytest.approx(float(images.sum() ** 2 / images.square().sum()), rel=1e-4) and effective > 1


def weights_by_label() -> torch.Tensor:
    """Those by label of the same training images."""
    data = tiny_digits(reweighting=Reweighting(), limit=None)
    return Reweighting().of(data.images("train"))["weights"]


def test_it_needs_labels_that_are_weighted(tmp_path, classifier):
    index = torch.arange(1797)
    write_clusters(tmp_path / "groups.npz", index, index % 10)
    for data in (tiny_digits(), tiny_digits(reweighting=Reweighting(by=str(tmp_path / "groups.npz")))):
        with pytest.raises(UserError, match=r"data\.reweighting with by: label"):
            tiny_trainer(tmp_path, DynamicReweighting(features=classifier)).fit(tiny_module(), datamodule=data)


@pytest.mark.parametrize(("num_classes", "limit"), [(7, None), (12, None), (10, 1)])
def test_other_classes_than_those_of_the_labels_are_refused_before_training(tmp_path, num_classes, limit):
    path = written(tmp_path / "other.safetensors", num_classes)
    data = tiny_digits(reweighting=Reweighting(), limit=limit, batch_size=1)
    trainer = tiny_trainer(tmp_path, EMA(half_life_images=100), DynamicReweighting(features=path, every_n_steps=2))
    with pytest.raises(UserError, match=rf"weights of {num_classes}: labels must be the classes of the features"):
        trainer.fit(tiny_module(), datamodule=data)
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_images": 0}, "num_images, every_n_steps and batch_size must be at least 1"),
        ({"gamma": 0}, "gamma must be positive"),
        ({"gamma": float("inf")}, "gamma must be positive and finite"),
        ({"smoothing": 1}, "smoothing lie"),
        ({"frozen": 2}, "frozen in"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(UserError, match=words):
        DynamicReweighting(features="none", **options)
