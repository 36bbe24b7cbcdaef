"""What is in assets/ is what its card says, small, and works."""

import re

import pytest
import torch
from helpers import ROOT

from checkpoints.prior import load_prior
from common.files import sha256_of
from diffusion.denoiser import expand

WEIGHTS = sorted((ROOT / "assets").glob("*.safetensors"))


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
