"""Gaussian blurs: kernels, closed forms, spectra of the reference, and what is refused."""

import math

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.circular_blur import CircularBlur, CircularGaussianBlur
from degradations.gaussian import gaussian_taps
from degradations.reflecting_blur import ReflectingGaussianBlur, gaussian_axis
from degradations.separable import reflected

RANDOM = RandomStreams(0)


@pytest.mark.parametrize(("std", "taps"), [(0.375, 5), (0.5, 5), (0.75, 7), (1.0, 9), (1.5, 13), (3.0, 25)])
def test_taps_of_the_reference(std: float, taps: int):
    kernel = gaussian_taps(std)
    assert len(kernel) == taps and float(kernel.sum()) == pytest.approx(1, abs=1e-15)
    assert torch.equal(kernel, kernel.flip(0)) and kernel.argmax() == taps // 2
    middle = taps // 2
    assert float(kernel[middle + 1] / kernel[middle]) == pytest.approx(math.exp(-0.5 / std**2), rel=1e-12)


def test_small_std_is_the_identity_and_bad_ones_are_refused():
    assert torch.equal(gaussian_taps(0.0), torch.ones(1, dtype=torch.float64))
    assert len(gaussian_taps(0.1)) == 1
    for std in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="std"):
            gaussian_taps(std)


@pytest.mark.parametrize("side", [28, 64])
@pytest.mark.parametrize(
    ("std", "least", "below", "below_tenth"),
    [
        (0.375, 0.796, 0, 0),
        (0.5, 0.330, 0, 0),
        (0.75, 1.55e-2, 0.05, 0.265),
        (1.0, 2.07e-4, 0.44, 0.63),
        (1.5, None, 0.75, 0.83),
        (3.0, None, 0.94, 0.96),
    ],
)
def test_spectrum_of_the_reference(side: int, std: float, least: float | None, below: float, below_tenth: float):
    """Table 1.3 of the reference: what a circular Gaussian blur keeps depends on its std in pixels alone."""
    values = CircularGaussianBlur(std=std).operator_for((1, side, side), [0], RANDOM).svd.singular_values
    if least is not None:
        assert float(values.min()) == pytest.approx(least, rel=0.01)
    assert float((values < 3e-2).double().mean()) == pytest.approx(below, abs=0.015)
    assert float((values < 0.1).double().mean()) == pytest.approx(below_tenth, abs=0.015)


@pytest.mark.parametrize("side", [8, 9, 28, 5])
@pytest.mark.parametrize("std", [0.5, 1.0, 3.0])
def test_reflecting_blur_is_diagonal_in_the_cosine_basis(side: int, std: float):
    """R = D^T diag(sum_o k[o] cos(pi m o / side)) D with the DCT-II D: a closed form of the whole matrix, at any
    radius.
    """
    axis, taps = gaussian_axis(side, std), gaussian_taps(std)
    m, i = torch.arange(side).double()[:, None], torch.arange(side).double()
    basis = torch.cos(math.pi * m * (2 * i + 1) / (2 * side)) * (2 / side) ** 0.5
    basis[0] = side**-0.5
    offsets = torch.arange(len(taps)).double() - len(taps) // 2
    values = (taps * torch.cos(math.pi * m * offsets / side)).sum(1)
    torch.testing.assert_close(basis.mT @ (values[:, None] * basis), axis.matrix, rtol=0, atol=1e-13)
    torch.testing.assert_close(axis.s, values.abs().sort(descending=True).values, rtol=0, atol=1e-13)
    # light is neither lost nor made
    torch.testing.assert_close(axis.matrix.sum(0), torch.ones(side).double(), rtol=0, atol=1e-13)


def test_reflected_repeats_the_border_pixel():
    assert reflected(torch.arange(-5, 9), 4).tolist() == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]
    assert reflected(torch.tensor([-3, 0, 5]), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 9, 15)])
def test_single_pixel_gives_the_kernel(shape: tuple[int, int, int]):
    taps = gaussian_taps(0.75)
    x = torch.zeros(1, *shape).double()
    x[..., 4, 5] = 1
    for degradation in (CircularGaussianBlur(std=0.75), ReflectingGaussianBlur(std=0.75)):
        y = degradation.operator_for(shape, [0], RANDOM)(x)
        torch.testing.assert_close(y[0, 0, 1:8, 2:9], torch.outer(taps, taps), rtol=0, atol=1e-15)
        assert float(y.sum()) == pytest.approx(1, abs=1e-13)


def test_circular_blur_wraps_and_convolves():
    """A kernel of one tap at (k // 2 + 1, l // 2) moves the picture down by one pixel, and around: convolution, not
    correlation.
    """
    kernel = torch.zeros(4, 4).double()
    kernel[3, 2] = 1
    x = torch.arange(20.0).double().view(1, 1, 4, 5)
    torch.testing.assert_close(CircularBlur(kernel, (1, 4, 5))(x), x.roll(1, 2), rtol=0, atol=1e-13)


def test_checkerboard_is_scaled_by_the_highest_frequency():
    grid = torch.arange(28)[:, None] + torch.arange(28)
    x = (1.0 - 2.0 * (grid % 2)).double().view(1, 1, 28, 28)
    taps = gaussian_taps(1.0)
    gain = float((taps * (-1.0) ** (torch.arange(9) - 4)).sum()) ** 2
    y = CircularGaussianBlur(std=1.0).operator_for((1, 28, 28), [0], RANDOM)(x)
    torch.testing.assert_close(y, gain * x, rtol=0, atol=1e-13)


def test_pseudo_inverse_restores_a_gentle_blur():
    x = torch.rand(1, 3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for degradation in (CircularGaussianBlur(std=0.5), ReflectingGaussianBlur(std=0.5)):
        operator = degradation.operator_for((3, 28, 28), [0], RANDOM)
        torch.testing.assert_close(operator.pseudo_inverse(operator(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("blur", [CircularGaussianBlur, ReflectingGaussianBlur])
@pytest.mark.parametrize(
    "options",
    [
        {"std": 0.0},
        {"std": -1.0},
        {"std": math.inf},
        {"std": math.nan},
        {"std": 1.0, "threshold": -0.1},
        {"std": 1.0, "threshold": 1.0},
    ],
)
def test_refuses_options(blur: type, options: dict):
    with pytest.raises(UserError, match=r"std must be|threshold must be"):
        blur(**options)


def test_circular_blur_refuses_small_images_where_it_says():
    with pytest.raises(UserError, match=r"9x9 pixels, more than the image of 8x28: choose std below 0.875"):
        CircularGaussianBlur(std=1.0).operator_for((1, 8, 28), [0], RANDOM)
    CircularGaussianBlur(std=0.874).operator_for((1, 8, 28), [0], RANDOM)
    CircularGaussianBlur(std=1.0).operator_for((1, 9, 9), [0], RANDOM)
    with pytest.raises(UserError, match=r"choose std below 0.875"):
        CircularGaussianBlur(std=0.875).operator_for((1, 8, 8), [0], RANDOM)
    with pytest.raises(ValueError, match="kernel must have shape"):
        CircularBlur(torch.ones(9, 9), (1, 8, 28))


def test_building_twice_is_cheap():
    assert gaussian_axis(28, 1.0) is gaussian_axis(28, 1.0)
