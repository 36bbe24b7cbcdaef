"""FID during training: what is measured, when, and that the number of processes and batches does not matter."""

import common.late_torchmetrics  # noqa: I001  (spawned processes import this file without conftest.py)
import common.torchvision_remedy  # noqa: F401  (spawned processes import this file without conftest.py)

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.generation_quality import GenerationQuality, _gathered
from callbacks.metrics_csv import MetricsCSV
from checkpoints.classifier import describe_classifier
from checkpoints.files import write_safetensors
from checkpoints.features import ClassifierFeatures
from common.errors import UserError
from common.image_range import to_uint8
from degradations.severity.gaussian_blur import GaussianBlur
from evaluation.generation.measures import metrics_of, quality
from evaluation.generation.reference import reference_features, shuffled
from lightning_modules.cold_diffusion import ColdDiffusion
from metrics.features import Features
from networks.resnet import ResNet
from networks.unet import UNet


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    network = ResNet(in_channels=1, channels=[8, 6], groups=2)
    path = tmp_path / "tiny.safetensors"
    write_safetensors(
        path,
        network,
        describe_classifier(network, shape=(1, 8, 8), data="Digits"),
        dtype=torch.float32,
        key="classifier",
    )
    return str(path)


def test_it_measures_what_the_averaged_prior_draws(tmp_path, classifier):
    model, data, logger = tiny_module(), tiny_digits(), MetricsCSV(tmp_path)
    callback = GenerationQuality(features=classifier, num_images=24, batch_size=5)
    trainer = tiny_trainer(
        tmp_path, EMA(half_life_images=100), callback, logger=logger, max_steps=3, limit_val_batches=0
    )
    trainer.fit(model, datamodule=data)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    row = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert row["step"] == "3" and float(row["quality/fid_low"]) < float(row["quality/fid"]) < float(
        row["quality/fid_high"]
    )
    network = ClassifierFeatures(path=classifier)
    with model.average.swapped():
        drawn = network.of_all(to_uint8(model.generate(list(range(24)))))
    expected = quality(metrics_of(network), drawn, reference_features(data.images("train"), network))
    assert float(row["quality/fid"]) == pytest.approx(expected["fid"].value, rel=1e-3)
    assert float(row["quality/kid"]) == pytest.approx(expected["kid"].value, rel=1e-3)
    assert float(row["quality/inception_score"]) == pytest.approx(expected["inception_score"].value, rel=1e-3)


def test_it_is_measured_now_and_then_and_at_the_end(tmp_path, classifier):
    steps = []
    callback = GenerationQuality(features=classifier, num_images=4, every_n_steps=2)
    callback._measure = lambda trainer, module, inside: steps.append(trainer.global_step)
    tiny_trainer(tmp_path, EMA(), callback, max_steps=5, limit_val_batches=0).fit(
        tiny_module(), datamodule=tiny_digits()
    )
    assert steps == [2, 4, 5]


def test_reference_features_are_kept_by_pixels_and_network(tmp_path, classifier):
    network, images = ClassifierFeatures(path=classifier), tiny_digits().images("train")
    seen = []
    first = reference_features(images, network, on_progress=lambda done, total: seen.append((done, total)))
    again = reference_features(images, network, on_progress=lambda *_: pytest.fail("it was kept"))
    assert (
        seen == [(64, 64)]
        and torch.equal(first.features, again.features)
        and torch.equal(first.probabilities, again.probabilities)
    )
    fewer = reference_features(images, network, limit=10)
    torch.testing.assert_close(fewer.features, first.features[:10], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        first.features, network.of_all(images.get(shuffled(64)).image).features, atol=1e-5, rtol=0
    )


def test_reference_images_of_a_sorted_set_are_a_fair_sample(classifier):
    """Sets come in the order of their classes or writers: the first rows of a folder of classes would be one class."""
    label = torch.arange(10).repeat_interleave(1000)
    counts = label[shuffled(10_000)[:1000]].bincount(minlength=10)
    assert counts.min() > 60 and counts.max() < 145, counts
    assert shuffled(10_000).unique().numel() == 10_000


def _share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    index = list(range(rank, 5, 3)) if rank < 2 else []  # 0 3 | 1 4 | nothing
    parts = [Features(torch.tensor([[float(i)]]), torch.tensor([[i / 5, 1 - i / 5]])) for i in index]
    found = _gathered(index, parts)
    torch.save((found.features, found.probabilities), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_put_their_features_together_in_the_order_of_the_images(tmp_path):
    """Unequal shares, one of them empty; every process ends up with the same."""
    torch.multiprocessing.spawn(_share, args=(str(tmp_path),), nprocs=3)
    for rank in range(3):
        features, probabilities = torch.load(tmp_path / f"{rank}.pt")
        assert features.flatten().tolist() == [0, 1, 3, 4]
        torch.testing.assert_close(probabilities[:, 0], features.flatten() / 5)


def test_what_cannot_be_measured_is_refused_before_training(tmp_path, classifier):
    with pytest.raises(UserError, match="needs quality"):
        GenerationQuality(num_images=100)
    with pytest.raises(UserError, match="no classifier at"):
        tiny_trainer(tmp_path, GenerationQuality(features="nowhere.safetensors", num_images=9)).fit(
            tiny_module(), datamodule=tiny_digits()
        )
    family = GaussianBlur(steps=4, taps=3, std=1.0)
    restorer = ColdDiffusion(
        network=UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, groups=4),
        family=family,
        data_shape=[1, 8, 8],
    )
    with pytest.raises(UserError, match="start is null, so that nothing can be drawn"):
        GenerationQuality(features=classifier, num_images=9).setup(tiny_trainer(tmp_path), restorer, "fit")
