"""Phase retrieval: magnitudes against NumPy's transform, what cannot be told apart, sizes, what is refused."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from degradations.phase_retrieval import PhaseRetrieval


def _images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("values", ["unit", "signed"])
def test_it_is_the_magnitude_of_numpys_centred_transform(values: str):
    x = _images(2, 3, 16, 24)
    operator = PhaseRetrieval(values=values).bind({}, (3, 16, 24))
    padded = np.pad((x.numpy() + 1) / 2 if values == "unit" else x.numpy(), [(0, 0), (0, 0), (4, 4), (6, 6)])
    shifted = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded, (2, 3)), norm="ortho"), (2, 3))
    np.testing.assert_allclose(operator(x).numpy(), np.abs(shifted), atol=1e-12)


@pytest.mark.parametrize(("side", "measured"), [(256, 384), (64, 96), (32, 48), (28, 42)])
def test_sizes_of_the_literature(side: int, measured: int):
    assert PhaseRetrieval().bind({}, (3, side, side)).output_shape == (3, measured, measured)
    assert PhaseRetrieval(oversampling=4).bind({}, (1, side, side)).output_shape == (1, 2 * side, 2 * side)


def test_what_cannot_be_told_apart():
    """A half turn, always; the negative and a shift on a black border, with signed values."""
    x = _images(1, 1, 12, 12)
    for values in ("unit", "signed"):
        operator = PhaseRetrieval(values=values).bind({}, (1, 12, 12))
        torch.testing.assert_close(operator(x.flip(2, 3)), operator(x), rtol=0, atol=1e-12)
        assert not torch.allclose(operator(x.flip(3)), operator(x))
    torch.testing.assert_close(operator(-x), operator(x), rtol=0, atol=1e-12)
    black = torch.full((1, 1, 12, 12), -1.0, dtype=torch.float64)
    black[..., 3:8, 2:9] = x[..., :5, :7]
    unit = PhaseRetrieval(oversampling=4).bind({}, (1, 12, 12))
    torch.testing.assert_close(unit(black.roll((2, 3), (2, 3))), unit(black), rtol=0, atol=1e-12)


def test_it_keeps_the_energy_and_lengthens_no_difference():
    x, z = _images(2, 1, 1, 8, 8)
    for values, norm in (("unit", 0.5), ("signed", 1.0)):
        operator = PhaseRetrieval(values=values).bind({}, (1, 8, 8))
        seen = (x + 1) / 2 if values == "unit" else x
        torch.testing.assert_close(operator(x).norm(), seen.norm())
        assert operator.norm() == norm
        assert float((operator(x) - operator(z)).norm()) <= norm * float((x - z).norm())
    white = PhaseRetrieval().bind({}, (1, 8, 8))
    assert float(white(torch.ones(1, 1, 8, 8)).max()) == pytest.approx(white.output_range[1])


def test_the_gradient_is_finite_where_the_magnitude_is_zero():
    x = torch.full((1, 1, 8, 8), -1.0, requires_grad=True)
    operator = PhaseRetrieval().bind({}, (1, 8, 8))
    (gradient,) = torch.autograd.grad((operator(x) - 1).square().sum(), x)
    assert torch.isfinite(gradient).all()


def test_options_out_of_range_and_pictures_are_refused():
    for options, words in (({"oversampling": -1.0}, "oversampling must be"), ({"values": "phase"}, "values must be")):
        with pytest.raises(UserError, match=words):
            PhaseRetrieval(**options)
    with pytest.raises(UserError, match="a picture does not hold"):
        PhaseRetrieval().clean_shape((1, 28, 28))
