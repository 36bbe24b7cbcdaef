import pytest
import torch

from common.image_range import sigma_from, sigma_to_255, to_float, to_uint8


def test_every_level_survives_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8)
    x = to_float(pixels)
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    assert torch.equal(to_uint8(x), pixels)


def test_rounding_is_to_the_nearest_and_values_outside_are_clamped():
    x = to_float(torch.tensor([100, 200], dtype=torch.uint8))
    assert torch.equal(to_uint8(x + 0.49 / 127.5), torch.tensor([100, 200], dtype=torch.uint8))
    assert torch.equal(to_uint8(x + 0.51 / 127.5), torch.tensor([101, 201], dtype=torch.uint8))
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_what_is_not_an_image_is_refused():
    with pytest.raises(TypeError, match="uint8"):
        to_float(torch.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.tensor([float("nan")]))


def test_the_three_units_of_noise_agree():
    assert (
        sigma_from(sigma_255=12.75)
        == pytest.approx(sigma_from(sigma_unit=0.05))
        == pytest.approx(sigma_from(sigma=0.1))
    )
    assert sigma_to_255(sigma_from(sigma_255=25)) == pytest.approx(25)
    for wrong in ({}, {"sigma": 1, "sigma_255": 2}, {"sigma": -1}, {"sigma_unit": float("inf")}):
        with pytest.raises(ValueError):
            sigma_from(**wrong)
