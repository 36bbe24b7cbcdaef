"""What is in assets/ is what its card says, small, and works."""

import os
import re

import pytest
import torch
from helpers import ROOT

from checkpoints.classifier import load_classifier
from checkpoints.load import load_prior
from common.files import sha256_of
from datamodules.cifar10 import CIFAR10
from datamodules.fashion_mnist import FashionMNIST
from datamodules.mnist import MNIST
from diffusion.denoiser import expand

WEIGHTS = sorted((ROOT / "assets").glob("*.safetensors"))
CLASSIFIERS = [p for p in WEIGHTS if p.stem.startswith("classifier_")]
DATA = {"MNIST": MNIST, "FashionMNIST": FashionMNIST, "CIFAR10": CIFAR10}


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
def test_the_card_names_size_and_hash(path):
    card = path.with_suffix(".md").read_text()
    assert sha256_of(path) in card and f"{path.stat().st_size:,} bytes" in card
    assert path.stat().st_size < 5_000_000


def test_the_mnist_prior_denoises_a_digit():
    """A seven of strokes: from noise of sigma 0.5 one call leaves less than a third of the squared error."""
    prior = load_prior(ROOT / "assets/ddpm_mnist.safetensors")
    assert prior.denoiser.data_shape == (1, 28, 28) and re.fullmatch(r"[0-9a-f]{64}:ema", prior.fingerprint)
    x = torch.full((1, 1, 28, 28), -1.0)
    x[..., 6:9, 7:21] = 1.0
    for row in range(9, 23):
        column = 20 - (row - 9) // 2
        x[..., row, column - 2 : column + 1] = 1.0
    sigma = torch.tensor([0.5])
    noisy = x + expand(sigma, x) * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = (prior.denoiser.predict(noisy, sigma).x0 - x).square().mean()
    assert error < (noisy - x).square().mean() / 3


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda p: p.stem)
def test_a_classifier_is_small_and_has_64_features(path):
    loaded = load_classifier(path)
    shape = loaded.description["data"]["shape"]
    assert path.stat().st_size < 500_000 and loaded.network.feature_dimension == 64
    assert loaded.network.features(torch.zeros(2, *shape)).shape == (2, 64)
    assert not loaded.network.training and all(p.dtype == torch.float32 for p in loaded.network.parameters())


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda p: p.stem)
def test_a_classifier_reads_the_first_thousand_test_images(path):
    """The first 1,000 by position; three standard errors (binomial) under what the card says of the file."""
    loaded = load_classifier(path)
    name = loaded.description["data"]["name"]
    if not os.environ.get("DATA_DIR"):
        pytest.skip(f"DATA_DIR is not set: {name} is not here")
    card = float(re.search(r"([\d.]+) % of the 10,000 test images", path.with_suffix(".md").read_text()).group(1)) / 100
    images = DATA[name](batch_size=8, download=False).images("test")
    batch = images.get(torch.arange(1000))
    with torch.no_grad():
        predicted = torch.cat([loaded.network(part.float() / 127.5 - 1).argmax(1) for part in batch.image.split(250)])
    accuracy = float((predicted == batch.label).float().mean())
    assert accuracy > card - 3 * (card * (1 - card) / 1000) ** 0.5, (accuracy, card)
