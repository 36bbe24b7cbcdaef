"""Hadamard matrices against their definition and SciPy's; what is measured of an image, and what is refused."""

import pytest
import torch
from scipy.linalg import hadamard

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.compressed_sensing import CompressedSensing, HadamardSensing
from degradations.hadamard import factor, hadamard_transform
from degradations.measurement import measure
from degradations.noise import GaussianNoise

RANDOM = RandomStreams(0)


def _matrix(n: int, transposed: bool = False) -> torch.Tensor:
    return hadamard_transform(torch.eye(n, dtype=torch.float64), transposed=transposed).mT


@pytest.mark.parametrize("n", [1, 2, 4, 12, 20, 24, 28, 36, 44, 56, 64, 112, 256])
def test_hadamard_matrices(n: int):
    """Signs alone, orthogonal rows, the first one of ones; the transposed one undoes the other."""
    matrix = _matrix(n)
    assert torch.allclose(matrix.abs(), torch.full_like(matrix, n**-0.5), rtol=0, atol=1e-12)
    assert torch.allclose(matrix @ matrix.mT, torch.eye(n).double(), rtol=0, atol=1e-12)
    assert (matrix[0] > 0).all() and torch.allclose(_matrix(n, True), matrix.mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_powers_of_two_are_sylvesters(n: int):
    torch.testing.assert_close(_matrix(n) * n**0.5, torch.from_numpy(hadamard(n)).double(), rtol=0, atol=1e-12)


def test_rows_and_columns_are_the_transform_of_the_whole_picture():
    """DDRM transforms the flattened picture: the same coefficients in the same places."""
    x = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = HadamardSensing(torch.ones(1, 1, 8, 16), channels=3)
    torch.testing.assert_close(operator(x).flatten(2), hadamard_transform(x.flatten(2)), rtol=0, atol=1e-12)


def test_sizes_without_a_matrix_are_refused_with_others():
    for n, near in ((52, "48, 56, 60"), (9, "8, 12, 16"), (30, "28, 32, 36")):
        with pytest.raises(UserError, match=near):
            factor(n)
    with pytest.raises(UserError, match="side of 15"):
        CompressedSensing().operator_for((1, 8, 15), [0], RANDOM)


@pytest.mark.parametrize(("ratio", "count"), [(0.25, 196), (0.5, 392), (1e-9, 1), (1.0, 784)])
@pytest.mark.parametrize("scrambled", [False, True])
def test_how_many_are_measured_and_the_mean_among_them(ratio: float, count: int, scrambled: bool):
    operator = CompressedSensing(ratio=ratio, scrambled=scrambled).operator_for((3, 28, 28), [0, 5], RANDOM)
    assert operator.mask.flatten(1).sum(1).tolist() == [count, count] and (operator.mask[:, 0, 0, 0] == 1).all()
    x = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(operator(x)[..., 0, 0], 28 * x.mean((2, 3)), rtol=0, atol=1e-12)
    assert float((operator.pseudo_inverse(operator(x)).mean((2, 3)) - x.mean((2, 3))).abs().max()) < 1e-12


def test_every_coefficient_is_drawn_as_often_as_the_others():
    masks = CompressedSensing(ratio=0.5).operator_for((1, 8, 8), list(range(2000)), RANDOM).mask
    share = masks.double().mean(0).flatten()[1:]
    assert float((share - 31 / 63).abs().max()) < 4.5 * (0.25 / 2000) ** 0.5


def test_scrambled_coefficients_are_of_all_pixels_in_another_order():
    """The same picture: without scrambling half of the energy of a flat one with an edge is in few coefficients."""
    x = torch.where(torch.arange(32) < 16, 1.0, -1.0).double().expand(1, 1, 32, 32)
    plain, mixed = (
        HadamardSensing(torch.ones(1, 1, 32, 32), channels=1, order=order)(x)
        for order in (None, torch.randperm(1024, generator=torch.Generator().manual_seed(0))[None])
    )
    assert float(plain.abs().max()) == pytest.approx(32) and float(mixed.abs().max()) < 6
    torch.testing.assert_close(mixed.norm(), x.norm())


def test_noise_is_in_what_is_measured_alone():
    x = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    degradation = CompressedSensing(ratio=0.25, scrambled=True)
    m = measure(x, degradation=degradation, noise=GaussianNoise(sigma=0.1), index=range(8), random=RANDOM)
    mask = m.operator.mask.bool()
    assert (m.y[~mask] == 0).all() and float((m.y - m.operator(x))[mask].std()) == pytest.approx(0.1, rel=0.05)


def test_options_out_of_range_are_refused():
    for ratio in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match="ratio must be"):
            CompressedSensing(ratio=ratio)
    with pytest.raises(ValueError, match="of 0 and 1"):
        HadamardSensing(torch.full((1, 1, 4, 4), 0.5), channels=1)
    with pytest.raises(ValueError, match=r"order must be \[B, 16\]"):
        HadamardSensing(torch.ones(1, 1, 4, 4), channels=1, order=torch.arange(4)[None])
