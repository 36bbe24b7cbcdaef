"""Our operators against independent implementations: scipy, Pillow, torch.nn.functional, deepinv."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.bicubic import Bicubic
from degradations.circular_blur import CircularBlur, CircularGaussianBlur
from degradations.gaussian import gaussian_taps
from degradations.grey import Grey
from degradations.random_mask import RandomMask
from degradations.reflecting_blur import ReflectingGaussianBlur

RANDOM = RandomStreams(0)


def _images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("std", [0.5, 1.0, 2.3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 21, 34), (1, 8, 8)])
def test_reflecting_blur_is_scipys_reflect(shape: tuple[int, int, int], std: float):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = _images(2, *shape)
    expected = ndimage.gaussian_filter1d(
        ndimage.gaussian_filter1d(x.numpy(), std, axis=-2, mode="reflect"), std, axis=-1, mode="reflect"
    )
    found = ReflectingGaussianBlur(std=std).operator_for(shape, [0, 1], RANDOM)(x)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("std", [0.5, 1.0, 2.3])
def test_circular_blur_is_scipys_wrap(std: float):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = _images(2, 3, 21, 34)
    expected = ndimage.gaussian_filter(x.numpy(), std, axes=(-2, -1), mode="wrap")
    found = CircularGaussianBlur(std=std).operator_for((3, 21, 34), [0, 1], RANDOM)(x)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize(("side", "factor"), [(32, 2), (32, 4), (27, 3), (64, 8)])
def test_bicubic_is_torchs_antialiased_bicubic_inside(side: int, factor: int):
    """torch cuts the kernel at the border and scales it, we reflect: two output pixels at each border differ."""
    x = _images(2, 3, side, side)
    expected = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    found = Bicubic(factor=factor).operator_for((3, side, side), [0, 1], RANDOM)(x)
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=0, atol=1e-13)
    assert (found - expected).abs().max() > 1e-3


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_is_pillows_inside(factor: int):
    x = _images(1, 1, 32, 40)
    picture = Image.fromarray(x[0, 0].float().numpy())  # mode F: no rounding to 8 bits
    expected = np.asarray(picture.resize((40 // factor, 32 // factor), Image.Resampling.BICUBIC))
    found = Bicubic(factor=factor).operator_for((1, 32, 40), [0], RANDOM)(x)[0, 0].numpy()
    np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_border_is_pillows_on_the_reflected_image(factor: int):
    """With the image continued by hand (numpy's "symmetric") the whole picture agrees, borders too."""
    x = _images(1, 1, 16, 24)
    pad = 4 * factor
    picture = Image.fromarray(np.pad(x[0, 0].float().numpy(), pad, mode="symmetric"))
    expected = np.asarray(
        picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.BICUBIC)
    )[4:-4, 4:-4]
    found = Bicubic(factor=factor).operator_for((1, 16, 24), [0], RANDOM)(x)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pooling_is_the_mean_of_blocks():
    x = _images(2, 3, 12, 20)
    expected = x.numpy().reshape(2, 3, 3, 4, 5, 4).mean((3, 5))
    np.testing.assert_allclose(
        AveragePool(factor=4).operator_for((3, 12, 20), [0, 1], RANDOM)(x).numpy(), expected, atol=1e-15
    )


def test_deepinv():
    """deepinv 0.5: circular and reflecting blur, pooling, inpainting, grey, with their adjoints; pseudo-inverse of the
    circular blur.
    """
    dinv = pytest.importorskip("deepinv")
    x = _images(2, 3, 21, 34)
    taps = gaussian_taps(1.0)
    kernel = torch.outer(taps, taps)
    skewed = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    for k in (kernel, skewed):
        theirs = dinv.physics.BlurFFT(img_size=(3, 21, 34), filter=k[None, None])
        ours = CircularBlur(k, (3, 21, 34), threshold=0.0)
        torch.testing.assert_close(ours(x), theirs.A(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.adjoint(x), theirs.A_adjoint(x), rtol=0, atol=1e-12)

    theirs = dinv.physics.Blur(filter=kernel[None, None], padding="circular").to(torch.float64)
    torch.testing.assert_close(
        CircularGaussianBlur(std=1.0).operator_for((3, 21, 34), [0, 1], RANDOM)(x), theirs.A(x), rtol=0, atol=1e-12
    )

    operator = RandomMask(removed=0.6).operator_for((3, 21, 34), [0, 1], RANDOM)
    theirs = dinv.physics.Inpainting(img_size=(3, 21, 34), mask=operator.mask.expand(-1, 3, -1, -1).double())
    torch.testing.assert_close(operator(x), theirs.A(x), rtol=0, atol=0)
    torch.testing.assert_close(operator.pseudo_inverse(x), theirs.A_dagger(x), rtol=0, atol=0)

    weights = [0.2989, 0.5870, 0.1140]
    theirs = dinv.physics.Decolorize(srf=weights)
    ours = Grey(weights=[w / sum(weights) for w in weights]).operator_for((3, 21, 34), [0, 1], RANDOM)
    torch.testing.assert_close(ours(x), theirs.A(x), rtol=0, atol=2e-4)
