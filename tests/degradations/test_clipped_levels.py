"""What clipping leaves of the noise: closed forms, real pictures, small pictures."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.noise import Noise
from degradations.poisson_noise import PoissonNoise
from degradations.speckle_noise import SpeckleNoise

CLIPPED = [
    ClippedGaussianNoise(sigma_255=25),
    PoissonNoise(scale=25, clip=True),
    PoissonNoise(scale=5, clip=True),
    SpeckleNoise(sigma_unit=0.45, clip=True),
]
each = pytest.mark.parametrize("noise", CLIPPED, ids=repr)


def data(*parts: str) -> Path:
    path = Path(os.environ.get("DATA_DIR", "")).joinpath(*parts)
    if "DATA_DIR" not in os.environ or not path.exists():
        pytest.skip(f"needs DATA_DIR with {'/'.join(parts)}")
    return path


def ratio(noise: Noise, x: torch.Tensor) -> torch.Tensor:
    """The level that is said over the level that was added, of each image."""
    y = noise.add(x, range(len(x)), RandomStreams(0))
    return noise.rms(y) / (y - x).double().square().mean((1, 2, 3)).sqrt()


@pytest.mark.parametrize("sigma_unit", [0.05, 0.12, 0.3])
def test_half_of_the_noise_of_black_is_gone(sigma_unit: float):
    """E[(v - u)^2 | u] = s^2 Phi(a) + u^2 (1 - Phi(a)) - u s phi(a), a = u / s, where white is far; rounding adds 1 /
    (12 255^2).
    """
    levels = ClippedGaussianNoise(sigma_unit=sigma_unit)._levels
    for level in (0, 3, 20):
        u = level / 255
        a = u / sigma_unit
        expected = sigma_unit**2 * norm.cdf(a) + u**2 * norm.sf(a) - u * sigma_unit * norm.pdf(a)
        assert float(levels.square[level]) == pytest.approx(expected, rel=0.01)
    assert float(levels.square[0]) == pytest.approx(float(levels.square[255]), rel=1e-9)
    torch.testing.assert_close(levels.probabilities.sum(1), torch.ones(256, dtype=torch.float64))


@each
def test_the_law_of_the_levels_is_that_of_what_is_drawn(noise: Noise):
    """Of a dark, a middle and a bright grey, the share of every level in 200 000 values."""
    for level in (5, 100, 250):
        x = torch.full((1, 1, 400, 500), 2 * level / 255 - 1)
        y = noise.add(x, [1], RandomStreams(2))
        found = noise._level(y) if isinstance(noise, PoissonNoise) else (127.5 * (y + 1)).round().long()
        share = torch.bincount(found.flatten(), minlength=256).double() / 200_000
        assert float((share - noise._levels.probabilities[level]).abs().max()) < 0.005


@each
def test_small_pictures_and_few_pixels(noise: Noise):
    """The mean over 300 pictures of 8x8 is right, and no level is said that the law cannot have."""
    x = torch.linspace(-1, 1, 64).view(1, 1, 8, 8).expand(300, 1, 8, 8)
    y = noise.add(x, range(300), RandomStreams(0))
    true = float((y - x).double().square().mean())
    assert float(noise.rms(y).square().mean()) == pytest.approx(true, rel=0.05)
    assert float(noise.rms(y).max()) <= 2 * float(noise._levels.square.max()) ** 0.5 * (1 + 1e-9)
    nothing = noise.rms(y[:2], torch.zeros(2, 1, 8, 8))
    assert bool(torch.isfinite(nothing).all()) and bool(torch.isfinite(noise.variance(y[:2])).all())


def test_handwritten_digits():
    """25 of 255 is 18.3 on MNIST: most of a digit is black."""
    path = data("MNIST", "raw", "t10k-images-idx3-ubyte.gz")
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=16)[: 200 * 784]
    x = to_float(torch.from_numpy(pixels.copy()).view(200, 1, 28, 28))
    noise = ClippedGaussianNoise(sigma_255=25)
    y = noise.add(x, range(200), RandomStreams(0))
    added = 127.5 * float((y - x).square().mean().sqrt())
    assert added == pytest.approx(18.3, abs=0.15)
    assert 127.5 * float(noise.rms(y).square().mean().sqrt()) == pytest.approx(added, rel=0.01)
    for other in CLIPPED[1:]:
        found = ratio(other, x)
        assert float(found.mean()) == pytest.approx(1, abs=0.02) and float(found.std()) < 0.2


@each
def test_photographs(noise: Noise):
    folder = data("restoration", "Set12")
    for path in sorted(folder.glob("*.png"))[:6]:
        with Image.open(path) as opened:
            x = to_float(torch.from_numpy(np.array(opened.convert("L")).copy())[None, None])
        assert float(ratio(noise, x[..., :256, :256])) == pytest.approx(1, abs=0.02), path.name
